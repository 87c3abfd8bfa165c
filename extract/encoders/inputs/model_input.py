"""The input of a model: how it is made, what the model is called with, and what its patches are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.tokens.block_tokens import COLUMN, PATCH, ROW, TIME, Axis
from epalm.extract.encoders.tokens.probe import square_axes
from epalm.tasks.types import Modality


class FingerprintedLoader(Loader, Protocol):
    """A loader that describes how it makes inputs."""

    def fingerprint(self) -> dict[str, str]:
        """Every setting of decoding and transforms that could change an input, as text."""


@dataclass(frozen=True)
class ModelInput:
    """The input of a model and how it is made.

    Attributes:
        modality: modality of the samples that `load` decodes.
        load: makes one input.
        arguments: makes the model's keyword arguments from a batch of inputs.
        example: an arbitrary input of the right shape and dtype.
        more: further settings for the fingerprint.
        axes: the axes of a number of patches.
    """

    modality: Modality
    load: FingerprintedLoader
    arguments: Callable[[Tensor], dict[str, Any]]
    example: Tensor
    more: dict[str, str] = field(default_factory=dict)
    axes: Callable[[int], tuple[Axis, ...]] = square_axes

    def random_batch(self) -> Tensor:
        """Two different inputs, (2, ...)."""
        shape = (2, *self.example.shape)
        generator = torch.Generator().manual_seed(0)
        if self.example.dtype == torch.uint8:
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return torch.randn(shape, generator=generator)

    def corner_index(self, batch: Tensor, patches: int) -> tuple[Tensor, int, int] | None:
        """A change of a corner, and where it must and must not show if `axes` are right.

        Args:
            batch: (2, ...) inputs.
            patches: number of patches.

        Returns:
            (1, ...) the first input with the top right corner of its last frame from the second,
            the index of that patch, and that of the patch in the opposite corner; None for inputs
            other than images and videos, and unknown grids.
        """
        axes = self.axes(patches)
        if batch.dtype != torch.uint8 or axes[0].name == PATCH:
            return None
        sizes = {axis.name: axis.size for axis in axes}
        side = batch.shape[-1] // sizes[COLUMN]
        changed = batch[:1].clone()
        if batch.dim() == 5:
            changed[:, -1, :, :side, -side:] = batch[1:, -1, :, :side, -side:]
        else:
            changed[..., :side, -side:] = batch[1:, :, :side, -side:]
        return changed, _index(axes, {ROW: 0, COLUMN: -1, TIME: -1}), _index(axes, {ROW: -1})


def _index(axes: Sequence[Axis], place: Mapping[str, int]) -> int:
    """The number of the patch at a place on the axes; -1 is the last, 0 where not given."""
    index = 0
    for axis in axes:
        index = index * axis.size + place.get(axis.name, 0) % axis.size
    return index
