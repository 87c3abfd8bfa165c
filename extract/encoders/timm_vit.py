"""Vision transformers from timm."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_registry import CODE_VERSION, Encoder, EncoderSettings
from epalm.extract.encoders.frame_pooling import for_media
from epalm.extract.encoders.frozen_forward import (
    PixelNorm,
    capture_outputs,
    frozen_pass,
    state_digest,
)
from epalm.extract.transforms.image_transform import ImageLoader, preset_for
from epalm.tasks.types import Modality
from epalm.untrusted.file_kinds import check_weights_file, describe_file
from epalm.untrusted.hub_config import loading

ARCHITECTURES = {
    "vit-ti16": "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit-s16": "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit-b16": "vit_base_patch16_224.augreg_in21k_ft_in1k",
    "vit-l16": "vit_large_patch16_224.augreg_in21k_ft_in1k",
}
"""Name of an encoder -> published weights. Without the tag, timm loads another set (augreg2)."""

_FAMILIES = (VisionTransformer, Eva, Beit)
"""The timm classes whose position 0 is [CLS] in every block. In CaiT, XCiT and ConViT, the class
token is added in the last blocks only."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""File names of weights on the Hugging Face hub, in order of preference."""

_HEADS = ("head.", "head_dist.")
"""Prefixes of the classifier's weights, which extraction does not use."""

logger = logging.getLogger(__name__)


class VitEncoder:
    """A timm vision transformer as an `Encoder`."""

    def __init__(
        self, name: str, model: nn.Module, *, load: ImageLoader, precision: str, device: str
    ) -> None:
        self.name = name
        self.width: int = model.embed_dim  # type: ignore[assignment]
        self.depth = len(model.blocks)  # type: ignore[arg-type]
        self.positions: int = model.num_prefix_tokens + model.patch_embed.num_patches  # type: ignore[assignment, operator, union-attr]
        self.modality: Modality = "image"
        self.precision = precision
        self.load: Loader = load
        self._load_settings = load.fingerprint()
        self._weights_digest = state_digest(model)
        self.model = model.eval().requires_grad_(requires_grad=False).to(device)
        self.norm: nn.Module = model.norm  # type: ignore[assignment]
        self._normalize = PixelNorm(load.preset, device)

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Compute the outputs of blocks, before the final norm.

        Args:
            batch: (B, 3, size, size) uint8.
            layers: 0-based ascending numbers of the blocks; None for all blocks.
            positions: number of tokens per block, in the order [CLS], registers if there are any,
                patches by row.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        blocks: Sequence[nn.Module] = self.model.blocks  # type: ignore[assignment]
        captured = blocks if layers is None else [blocks[layer] for layer in layers]
        pixels = self._normalize(batch)
        with (
            capture_outputs(captured, positions) as outputs,
            frozen_pass(self.precision, pixels.device),
        ):
            self.model.forward_features(pixels)  # type: ignore[operator]
        return outputs

    def fingerprint(self) -> dict[str, str]:
        """Architecture, digest of the weights, precision, code version, settings of the loader."""
        config: dict[str, Any] = self.model.pretrained_cfg  # type: ignore[assignment]
        return {
            "architecture": f"timm {config['architecture']}",
            "weights_sha256": self._weights_digest,
            "token": "cls",
            "norm": "final",
            "precision": self.precision,
            "code": CODE_VERSION,
            **self._load_settings,
        }


def make_vit(name: str, settings: EncoderSettings) -> Encoder:
    """Load a timm encoder; see `epalm.extract.encoders.encoder_registry.make_encoder`."""
    architecture = ARCHITECTURES.get(name, name.removeprefix("timm:"))
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"*{architecture[:12]}*")[:5]) or "see timm.list_models()"
        raise UsageError(f"timm has no architecture {architecture!r} ({near})")
    weights = settings.weights
    model = _published(architecture) if weights is None else _local(architecture, weights)
    _check_family(model, architecture)
    return vit_encoder(name, model, settings)


def vit_encoder(name: str, model: nn.Module, settings: EncoderSettings) -> Encoder:
    """Make a timm vision transformer an encoder of images or videos, as the settings say."""
    preset = preset_for(settings.preprocessing, resolve_model_data_config(model))
    encoder = VitEncoder(
        name,
        model,
        load=ImageLoader(preset, settings.views),
        precision=settings.precision,
        device=settings.device,
    )
    return for_media(encoder, settings)


def _published(architecture: str) -> nn.Module:
    """Load the model with its published weights, from the hub or its local cache."""
    logger.info("loading the weights of timm %s from the Hugging Face hub", architecture)
    with loading(partial(_unreachable, architecture)):
        model: nn.Module = timm.create_model(architecture, pretrained=True, num_classes=0)
    return model


def _unreachable(architecture: str, error: Exception) -> str:
    return (
        f"the weights of timm {architecture} are neither in the local Hugging Face cache nor "
        "available from the hub: give a local file with --weights, or run once with network access "
        f"and HF_HUB_OFFLINE unset ({error})"
    )


def _local(architecture: str, weights: Path) -> nn.Module:
    """Load the model with the weights of a safetensors or torch file, without its classifier."""
    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
    return load_weights(model, weights, name=f"timm {architecture}")


def load_weights(model: nn.Module, weights: Path, *, name: str) -> nn.Module:
    """Load a safetensors or torch file into a model without a classifier.

    Args:
        model: model without a classifier, changed in place.
        weights: the file, or a folder of a saved model; the classifier's weights are left out.
        name: name of the model, for messages.

    Returns:
        The model.

    Raises:
        MissingFileError: no such file.
        ModelError: the file does not contain weights, or those of another model.
    """
    state = _read_state(weights)
    state = {key: tensor for key, tensor in state.items() if not key.startswith(_HEADS)}
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{weights} does not fit {name}: {reason}") from error
    if result.missing_keys or result.unexpected_keys:
        raise ModelError(
            f"{weights} does not fit {name}: missing "
            f"{_listed(result.missing_keys)}; unexpected {_listed(result.unexpected_keys)}"
        )
    return model


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more


def _read_state(weights: Path) -> dict[str, Tensor]:
    from timm.models import load_state_dict

    if weights.is_dir():
        weights = _file_in(weights)
    if not weights.is_file():
        raise MissingFileError(f"--weights {weights}: no such file")
    label = f"--weights {weights}"
    check_weights_file(weights, label=label)
    try:
        state: dict[str, Tensor] = load_state_dict(str(weights), weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything, and torch's message advises
        # to execute the file
        raise ModelError(f"{label} cannot be read: it is {describe_file(weights)}") from error
    if not isinstance(state, Mapping):
        raise ModelError(f"{label} contains a {type(state).__name__}, expected tensors by name")
    return state


def _file_in(folder: Path) -> Path:
    """Find the weights in the folder of a saved model by the file names of the hub."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise MissingFileError(
        f"--weights {folder} is a folder without {' or '.join(WEIGHT_FILES)}: give the file"
    )


def _check_family(model: nn.Module, architecture: str) -> None:
    problem = None
    if not isinstance(model, _FAMILIES):
        problem = "is not a plain vision transformer with [CLS] in every block"
    elif model.cls_token is None:
        problem = "has no class token"
    elif not isinstance(model.norm, nn.LayerNorm):
        problem = "has no final LayerNorm over its tokens"
    if problem:
        raise ModelError(f"timm {architecture} {problem}: choose another --encoder")
