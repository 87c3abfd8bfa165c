"""Image encoders from timm."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import timm
from timm.data.config import resolve_model_data_config
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
from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.presets.hf_presets import example_image
from epalm.extract.encoders.tokens.block_tokens import BlockTokens
from epalm.extract.encoders.tokens.describe import describe
from epalm.extract.encoders.tokens.model_norms import norm_name
from epalm.extract.encoders.tokens.probe import Runnable
from epalm.extract.encoders.tokens.timm_families import FAMILIES, TimmParts, timm_parts
from epalm.extract.encoders.weights import timm_weights
from epalm.extract.encoders.weights.timm_image_size import size_arguments
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


_LISTED_BY_TIMM = "python -c 'import timm; print(*timm.list_models())' lists all"


class TimmEncoder:
    """A timm image encoder as an `Encoder`."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        parts: TimmParts,
        *,
        load: ImageLoader,
        precision: str,
        device: str,
    ) -> None:
        self.name = name
        self.modality: Modality = "image"
        self.precision = precision
        self.load: Loader = load
        self._load_settings = load.fingerprint()
        self._weights_digest = state_digest(model)
        self.model = model.eval().requires_grad_(requires_grad=False).to(device)
        self._parts = parts
        self._normalize = PixelNorm(load.preset, device)
        self.depth = len(parts.blocks)
        self.outputs = self._describe()
        self.width, self.positions = self.outputs[-1].width, self.outputs[-1].positions
        self.norm = self.outputs[-1].norm
        self.has_attention_pool = getattr(model, "attn_pool", None) is not None

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Compute the outputs of blocks, before the final norm.

        Args:
            batch: (B, 3, size, size) uint8.
            layers: 0-based ascending numbers of the blocks; None for all blocks.
            positions: number of tokens per block, in the order [CLS] and registers if there are
                any, patches by row.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        blocks = self._parts.blocks
        captured = blocks if layers is None else [blocks[layer] for layer in layers]
        pixels = self._normalize(batch)
        with (
            capture_outputs(captured, positions, self._parts.as_tokens) as outputs,
            frozen_pass(self.precision, pixels.device),
        ):
            self.model.forward_features(pixels)  # type: ignore[operator]
        return outputs

    def attention_pool(self, batch: Tensor) -> Tensor:
        """The output of the model's own attention pooling and the norm after it, (B, D) float32."""
        pixels = self._normalize(batch)
        model: Any = self.model
        with frozen_pass(self.precision, pixels.device):
            pooled: Tensor = model.forward_head(model.forward_features(pixels), pre_logits=True)
        return pooled.float()

    def _describe(self) -> Sequence[BlockTokens]:
        def run(batch: Tensor) -> object:
            result: object = self.model.forward_features(self._normalize(batch))  # type: ignore[operator]
            return result

        assert isinstance(self.load, ImageLoader)
        example = example_image(self.load.preset)
        model_input = ModelInput("image", self.load, arguments=dict, example=example)
        probed = Runnable(self.name, self.model, self._parts.blocks, run, self._parts.as_tokens)
        return describe(probed, model_input, lambda _: self._parts.norms)

    def fingerprint(self) -> dict[str, str]:
        """Architecture, digest of the weights, precision, code version, settings of the loader."""
        config: dict[str, Any] = self.model.pretrained_cfg  # type: ignore[assignment]
        return {
            "architecture": f"timm {config['architecture']}",
            "weights_sha256": self._weights_digest,
            "token": "cls",
            "norm": norm_name(self.outputs),
            "precision": self.precision,
            "code": CODE_VERSION,
            **self._load_settings,
        }


def make_vit(name: str, settings: EncoderSettings) -> Encoder:
    """Load a timm encoder; see `epalm.extract.encoders.encoder_registry.make_encoder`."""
    architecture = ARCHITECTURES.get(name, name.removeprefix("timm:"))
    _check_architecture(architecture)
    check_family(timm_weights.untrained_model(architecture), f"timm {architecture}")
    size = size_arguments(name, architecture, settings.image_size)
    weights = settings.weights
    model = (
        timm_weights.published_model(architecture, **size)
        if weights is None
        else timm_weights.local_model(architecture, weights, **size)
    )
    return vit_encoder(name, model, settings)


def _check_architecture(name: str) -> None:
    """Refuse a name that timm does not know, with the nearest ones.

    Raises:
        UsageError: unknown architecture, or unknown tag of published weights after its point.
    """
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = (
            timm.list_models(f"{architecture}*")
            or get_close_matches(architecture, timm.list_models())
            or timm.list_models(f"*{architecture}*")
        )
        advice = f"did you mean {' or '.join(near[:3])}?" if near else _LISTED_BY_TIMM
        raise UsageError(f"timm has no architecture {architecture!r}: {advice}")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        known = ", ".join(timm.list_pretrained(f"{architecture}.*")) or architecture
        message = f"timm has no weights {tag!r} of {architecture}; known are {known}"
        raise UsageError(message) from error


def vit_encoder(name: str, model: nn.Module, settings: EncoderSettings) -> Encoder:
    """Make a timm model an encoder of images or videos, as the settings say.

    Raises:
        ModelError: the model's family is not supported.
    """
    config = resolve_model_data_config(model)
    if settings.image_size:
        config["input_size"] = (3, settings.image_size, settings.image_size)
    preset = preset_for(settings.preprocessing, config)
    encoder = TimmEncoder(
        name,
        model,
        check_family(model, name),
        load=ImageLoader(preset, settings.views),
        precision=settings.precision,
        device=settings.device,
    )
    return for_media(encoder, settings)


def check_family(model: nn.Module, name: str) -> TimmParts:
    """The blocks and norms of a timm model, whose weights are not looked at.

    Raises:
        ModelError: the model's family is not supported.
    """
    parts = timm_parts(model)
    if parts is None:
        known = ", ".join(family.__name__ for family in FAMILIES)
        raise ModelError(
            f"{name} is a {type(model).__name__}, whose blocks have no tokens of one kind or are "
            f"not known: choose another --encoder, of one of the classes {known}"
        )
    return parts
