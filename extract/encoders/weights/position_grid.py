"""Grids of position embeddings: which can be interpolated, and what is reported of it."""

import math
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

NAME = "pos_embed"
"""Name of the position embeddings of timm's transformers."""


def special_positions(model: nn.Module) -> int:
    """Number of position embeddings of a timm model that belong to no patch."""
    if getattr(model, "no_embed_class", False):
        return 0
    count: int = getattr(model, "num_prefix_tokens", 0)
    return count


def is_square_grid(positions: int, model: nn.Module) -> bool:
    """Whether this number of position embeddings is a square of patches and the special ones."""
    patches = positions - special_positions(model)
    return patches > 0 and math.isqrt(patches) ** 2 == patches


def describe_changes(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], model: nn.Module
) -> Iterator[str]:
    """Describe each table of positions that was resampled, e.g. "pos_embed from 14 x 14 to ..."."""
    for name, tensor in after.items():
        old = before.get(name)
        if old is None or old.shape == tensor.shape or "pos" not in name:
            continue
        yield f"{name} from {_extent(old, model)} to {_extent(tensor, model)}"


def _extent(table: Tensor, model: nn.Module) -> str:
    if table.dim() == 3 and is_square_grid(table.shape[1], model):
        side = math.isqrt(table.shape[1] - special_positions(model))
        return f"{side} x {side}"
    return " x ".join(map(str, table.shape))
