"""What an encoder is, how its tokens are kept, and how one is made from its name."""

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
"""Part of every fingerprint; goes up whenever a change of this package changes vectors."""

PRECISIONS = ("fp32", "bf16", "fp16")
"""What the encoder multiplies in; see `Encoder.blocks`."""


@dataclass(frozen=True)
class EncoderSettings:
    """What decides, besides its name, what an encoder makes of a medium.

    Attributes:
        weights: a local file or folder; without it the encoder fetches its published weights.
        preprocessing: "official" or "native".
        precision: "fp32", or "bf16" or "fp16" for products in that type with a float32 residual
            stream.
        device: as torch spells it.
        views: how many views `load` makes of a medium, and how all but the first are drawn.
        media: what it will be given; None for what it is made for. An encoder of images takes
            clips with `frames_pool`, one of clips takes images as clips of one frame, one of
            recordings takes the sound tracks of clips.
        frames: of each clip, T; None for the encoder's own number.
        frames_pool: "mean" encodes each frame of a clip as an image and takes the mean of the
            tokens; "" leaves clips to encoders of clips.
    """

    weights: Path | None = None
    preprocessing: str = "official"
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
        name: as on the command line.
        width: D.
        depth: number of blocks.
        positions: tokens of a block's output; position 0 is [CLS].
        modality: what it takes.
        norm: its final LayerNorm.
        load: one medium and view -> one input.
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
        """The outputs of blocks, before the final norm.

        Args:
            batch: (B, ...) inputs stacked, on any device.
            layers: which blocks, 0-based and ascending; None for every one.
            positions: how many tokens of each, from [CLS] on.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """

    def fingerprint(self) -> dict[str, str]:
        """Each setting of the encoder that could change a vector."""


def last_cls_tokens(blocks: Sequence[Tensor], norm: nn.Module, keep: int = 6) -> Tensor:
    """Stack the [CLS] token of the last `keep` blocks, oldest first.

    Args:
        blocks: one (B, positions, D) tensor per block; position 0 is [CLS].
        norm: the encoder's final LayerNorm; the paper's code applies it to every block.
        keep: how many blocks, counted from the last.

    Returns:
        (B, keep, D), dtype and device of the last block.

    Raises:
        ValueError: fewer than `keep` blocks were recorded, or `keep` is not positive.
    """
    if not 1 <= keep <= len(blocks):
        raise ValueError(f"cannot keep {keep} of {len(blocks)} blocks")
    return normed_tokens([block[:, :1] for block in blocks[-keep:]], norm)


def normed_tokens(blocks: Sequence[Tensor], norm: nn.Module) -> Tensor:
    """The tokens of all blocks in a row.

    Args:
        blocks: one (B, positions, D) tensor per block.
        norm: the encoder's final LayerNorm; the paper's code applies it to every block.

    Returns:
        (B, blocks x positions, D): the first block's tokens, then the next one's.
    """
    tokens: Tensor = norm(torch.cat(list(blocks), dim=1))
    return tokens


def make_encoder(name: str, settings: EncoderSettings = DEFAULTS) -> Encoder:
    """Load the encoder called `name`.

    Args:
        name: a key of `ENCODERS`, `timm:<architecture>`, `hf:<id or folder>`, or a `TypedName`
            `package.module:Name` of a factory.
        settings: see there.

    Raises:
        UsageError: an unknown name or setting, or one that this encoder does not know.
        ModelError: the weights cannot be had or do not fit.
    """
    if settings.precision not in PRECISIONS:
        raise UsageError(
            f"--precision {settings.precision!r} is not one of {', '.join(PRECISIONS)}"
        )
    factory: Callable[[str, EncoderSettings], Encoder] = find_encoder(name)
    return factory(name, settings)
