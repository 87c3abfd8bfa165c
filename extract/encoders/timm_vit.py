"""Vision transformers from timm."""

from collections.abc import Sequence
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from epalm.errors import ModelError, UsageError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_registry import CODE_VERSION, Encoder, EncoderSettings
from epalm.extract.encoders.frame_pooling import for_media
from epalm.extract.encoders.frozen_forward import (
    PixelNorm,
    capture_outputs,
    frozen_pass,
    state_digest,
)
from epalm.extract.encoders.tokens.block_tokens import BlockTokens, image_grid
from epalm.extract.encoders.weights import timm_weights
from epalm.extract.transforms.image_preset import preset_for
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.tasks.types import Modality

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
        tokens = BlockTokens(
            self.width,
            special=model.num_prefix_tokens,  # type: ignore[arg-type]
            class_token=True,
            axes=image_grid(*model.patch_embed.grid_size),  # type: ignore[union-attr, misc]
            norm=self.norm,
        )
        self.outputs: Sequence[BlockTokens] = [tokens] * self.depth
        self.has_attention_pool = False

    def attention_pool(self, batch: Tensor) -> Tensor:
        """Plain vision transformers with a class token have no attention pooling."""
        raise NotImplementedError(f"{self.name} on {tuple(batch.shape)}")

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
    _check_family(timm_weights.untrained_model(architecture), architecture)
    weights = settings.weights
    model = (
        timm_weights.published_model(architecture)
        if weights is None
        else timm_weights.local_model(architecture, weights)
    )
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
