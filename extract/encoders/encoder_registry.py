"""The interface of encoders, their settings, and their construction by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from epalm.errors import UsageError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_names import find_encoder
from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews
from epalm.tasks.types import Modality

CODE_VERSION = "1"
"""Part of every fingerprint; incremented whenever a change of this package changes features."""

PRECISIONS = ("fp32", "bf16", "fp16")
"""Precisions of the encoder's matrix products."""


@dataclass(frozen=True)
class EncoderSettings:
    """Settings that, together with the name of an encoder, determine the features.

    Attributes:
        weights: local file or folder; None downloads the published weights.
        preprocessing: "native", or "official", that of the paper.
        image_size: side of the images, pixels; None for the encoder's own.
        precision: "fp32", or "bf16" or "fp16" for matrix products in that type with a float32
            residual stream.
        device: name of the torch device.
        views: number of views per sample, and the augmentation of all but the first.
        media: modality of the samples; None for the encoder's own. An image encoder accepts videos
            with `frames_pool`, a video encoder accepts images as videos of one frame, an audio
            encoder accepts the audio tracks of videos.
        frames: frames per video, T; None for the encoder's own number.
        frames_pool: "mean" encodes each frame of a video as an image and averages the tokens; ""
            requires a video encoder for videos.
    """

    weights: Path | None = None
    preprocessing: str = "official"
    image_size: int | None = None
    precision: str = "fp32"
    device: str = "cpu"
    views: AugmentedViews = ONE_VIEW
    media: Modality | None = None
    frames: int | None = None
    frames_pool: str = ""


DEFAULTS = EncoderSettings()


class Encoder(Protocol):
    """A frozen encoder in evaluation mode.

    Attributes:
        name: name on the command line.
        width: size of a token, D.
        depth: number of blocks.
        positions: number of tokens in the output of a block; position 0 is [CLS].
        modality: modality of the samples.
        norm: the final LayerNorm.
        load: makes one input from a sample and the number of a view.
    """

    name: str
    width: int
    depth: int
    positions: int
    modality: Modality
    norm: nn.Module
    load: Loader

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Compute the outputs of blocks, before the final norm.

        Args:
            batch: (B, ...) stacked inputs, on any device.
            layers: 0-based ascending numbers of the blocks; None for all blocks.
            positions: number of tokens per block, starting with [CLS].

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """

    def fingerprint(self) -> dict[str, str]:
        """Every setting of the encoder that could change a feature, as text."""


def last_cls_tokens(blocks: Sequence[Tensor], norm: nn.Module, keep: int = 6) -> Tensor:
    """Stack the [CLS] token of the last `keep` blocks, oldest first.

    Args:
        blocks: one (B, positions, D) tensor per block; position 0 is [CLS].
        norm: the encoder's final LayerNorm; the paper's code applies it to every block.
        keep: number of blocks, counted from the last.

    Returns:
        (B, keep, D), with the dtype and device of the last block.

    Raises:
        ValueError: there are fewer than `keep` blocks, or `keep` is not positive.
    """
    if not 1 <= keep <= len(blocks):
        raise ValueError(f"cannot keep {keep} of {len(blocks)} blocks")
    return normed_tokens([block[:, :1] for block in blocks[-keep:]], norm)


def normed_tokens(blocks: Sequence[Tensor], norm: nn.Module) -> Tensor:
    """Concatenate the tokens of all blocks and apply the final norm.

    Args:
        blocks: one (B, positions, D) tensor per block.
        norm: the encoder's final LayerNorm; the paper's code applies it to every block.

    Returns:
        (B, blocks x positions, D): the tokens of the first block, then those of the next.
    """
    tokens: Tensor = norm(torch.cat(list(blocks), dim=1))
    return tokens


def make_encoder(name: str, settings: EncoderSettings = DEFAULTS) -> Encoder:
    """Load an encoder by name.

    Args:
        name: a key of `ENCODERS`, `timm:<architecture>`, `hf:<id or folder>`, or a `TypedName`
            `package.module:Name` of a factory.
        settings: settings of the encoder.

    Raises:
        UsageError: an unknown name or setting, or one that this encoder does not support.
        ModelError: the weights cannot be loaded or do not fit.
    """
    if settings.precision not in PRECISIONS:
        raise UsageError(
            f"--precision {settings.precision!r} is not one of {', '.join(PRECISIONS)}"
        )
    factory: Callable[[str, EncoderSettings], Encoder] = find_encoder(name)
    return factory(name, settings)
