"""Vision transformers from timm."""

import hashlib
import logging
import pickle
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.augment import Views
from epalm.extract.encoder import CODE_VERSION, Loader
from epalm.extract.media import DECODE_POLICY
from epalm.extract.preprocess import ImageLoader, ImagePreset, preset_for
from epalm.tasks.records import Modality

ARCHITECTURES = {
    "vit-ti16": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit-s16": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit-b16": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit-l16": "vit_large_patch16_224.augreg_in21k_ft_in1k",
}
"""The published weights. The tag matters: without it timm takes another set (augreg2)."""

_FAMILIES = (VisionTransformer, Eva, Beit)
"""The timm classes whose position 0 is [CLS] in every block. In CaiT, XCiT and ConViT, which have
a class token too, it joins only in the last blocks."""

_HEADS = ("head.", "head_dist.")
"""Prefixes of classifier weights, which extraction does not use."""

logger = logging.getLogger(__name__)


class VitEncoder:
    """A timm vision transformer as an `Encoder`."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        *,
        preset: ImagePreset,
        views: Views,
        precision: str,
        device: str,
    ) -> None:
        self.name = name
        self.width: int = model.embed_dim  # type: ignore[assignment]
        self.depth = len(model.blocks)  # type: ignore[arg-type]
        self.positions: int = model.num_prefix_tokens + model.patch_embed.num_patches  # type: ignore[assignment, operator, union-attr]
        self.modality: Modality = "image"
        self.preset = preset
        self.views = views
        self.precision = precision
        self.load: Loader = ImageLoader(preset, views)
        self._weights_digest = state_digest(model)
        self.model = model.eval().requires_grad_(requires_grad=False).to(device)
        self.norm: nn.Module = model.norm  # type: ignore[assignment]
        self._mean = torch.tensor(preset.mean, device=device).reshape(3, 1, 1)
        self._std = torch.tensor(preset.std, device=device).reshape(3, 1, 1)

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """The outputs of blocks, before the final norm.

        Args:
            batch: (B, 3, size, size) uint8.
            layers: which blocks, 0-based and ascending; None for every one.
            positions: how many tokens of each: [CLS], registers if there are any, patches by row.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        recorded: list[Tensor] = []

        def record(_block: nn.Module, _inputs: object, output: Tensor) -> None:
            recorded.append(output[:, :positions].float().clone())

        wanted = range(self.depth) if layers is None else layers
        handles = [self.model.blocks[layer].register_forward_hook(record) for layer in wanted]  # type: ignore[index, union-attr]
        try:
            pixels = (batch.to(self._mean.device).float() / 255 - self._mean) / self._std
            with _exact_convolutions(), self._autocast(pixels.device.type):
                self.model.forward_features(pixels)  # type: ignore[operator]
        finally:
            for handle in handles:
                handle.remove()
        return recorded

    def _autocast(self, device_type: str) -> torch.autocast:
        """With bf16, matrix products round to bfloat16; residual stream and norms stay float32."""
        enabled = self.precision == "bf16"
        return torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled)

    def fingerprint(self) -> dict[str, str]:
        """Architecture, weights' digest, token, norm, preprocessing, views, precision, code."""
        config: dict[str, Any] = self.model.pretrained_cfg  # type: ignore[assignment]
        return {
            "architecture": f"timm {config['architecture']}",
            "weights_sha256": self._weights_digest,
            "token": "cls",
            "norm": "final",
            "decode": DECODE_POLICY,
            "precision": self.precision,
            "code": CODE_VERSION,
            **self.preset.fingerprint(),
            **self.views.fingerprint(),
        }


def _exact_convolutions() -> AbstractContextManager[None]:
    """Keep the patch embedding in full float32 on GPUs, where torch rounds it to TF32 if let."""
    settings: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, deterministic=True, allow_tf32=False
    )
    return settings


def make_vit(
    name: str,
    *,
    weights: Path | None,
    preprocessing: str,
    precision: str,
    device: str,
    views: int,
    seed: int,
    augmentation: str,
) -> VitEncoder:
    """The encoder called `name`; see `epalm.extract.encoder.make_encoder`."""
    drawn = Views(views, seed, augmentation)
    architecture = ARCHITECTURES.get(name, name.removeprefix("timm:"))
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture[:12]}*")[:5]) or "see timm.list_models()"
        raise UsageError(f"timm has no architecture {architecture!r} ({near})")
    model = _published(architecture) if weights is None else _local(architecture, weights)
    _check_family(model, architecture)
    preset = preset_for(preprocessing, resolve_model_data_config(model))
    return VitEncoder(name, model, preset=preset, views=drawn, precision=precision, device=device)


def state_digest(model: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every weight, in order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _published(architecture: str) -> nn.Module:
    """The model with the weights that timm names for it, from the hub or its local cache."""
    logger.info("loading the weights of timm %s from the Hugging Face hub", architecture)
    try:
        model: nn.Module = timm.create_model(architecture, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the weights of timm {architecture} are neither in the local Hugging Face cache nor "
            "to be had from the hub: pass a local file with --weights, or run once with network "
            f"access and HF_HUB_OFFLINE unset ({error})"
        ) from error
    return model


def _local(architecture: str, weights: Path) -> nn.Module:
    """The model with the weights of a safetensors or torch file, its classifier left out."""
    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
    state = _read_state(weights)
    state = {name: tensor for name, tensor in state.items() if not name.startswith(_HEADS)}
    try:
        found = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{weights} does not fit timm {architecture}: {reason}") from error
    if found.missing_keys or found.unexpected_keys:
        raise ModelError(
            f"{weights} does not fit timm {architecture}: missing "
            f"{_listed(found.missing_keys)}; unexpected {_listed(found.unexpected_keys)}"
        )
    return model


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def _read_state(weights: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    if not weights.is_file():
        raise MissingFileError(f"--weights {weights}: no such file")
    try:
        state: dict[str, Tensor] = load_state_dict(str(weights), weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ModelError(f"--weights {weights} cannot be read: {error}") from error
    return state


def _check_family(model: nn.Module, architecture: str) -> None:
    lacks = None
    if not isinstance(model, _FAMILIES):
        lacks = "is no plain vision transformer with [CLS] in every block"
    elif model.cls_token is None:
        lacks = "has no class token"
    elif not isinstance(model.norm, nn.LayerNorm):
        lacks = "has no final LayerNorm over its tokens"
    if lacks:
        raise ModelError(f"timm {architecture} {lacks}: choose another --encoder")
