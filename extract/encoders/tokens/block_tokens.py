"""What the output of an encoder's block consists of: special tokens, then patches on a grid."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from epalm.errors import UsageError

TIME, FREQUENCY, ROW, COLUMN, PATCH = "time", "frequency", "row", "column", "patch"
"""Names of the axes of a patch grid; `PATCH` is the only axis where the grid is unknown."""

AXIS_ORDER = (TIME, FREQUENCY, ROW, COLUMN)
"""Order of the axes in `pool:RxC`."""

POOLINGS: dict[int, Callable[[Tensor, Any], Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
"""Number of axes -> adaptive averaging over them."""


class Axis(NamedTuple):
    """One axis of the patch grid: its name and its number of patches."""

    name: str
    size: int


def image_grid(rows: int, columns: int) -> tuple[Axis, ...]:
    """The axes of patches that are listed row by row."""
    return Axis(ROW, rows), Axis(COLUMN, columns)


def identity() -> nn.Module:
    """A norm that changes nothing, for models without one."""
    return nn.Identity().eval()


@dataclass(frozen=True, eq=False)
class BlockTokens:
    """The output of a block, (B, special + patches, width).

    Attributes:
        width: size of a token, D.
        special: number of tokens before the patches: class tokens and registers.
        class_token: whether position 0 is a class token, [CLS].
        axes: axes of the patch grid in the order of the patches, the slowest first. Two axes of the
            same name are the coarse and the fine part of one.
        norm: applied to every token, e.g. the encoder's final norm.
        pooled_norm: applied to averages of tokens, in models whose norm follows the pooling.
    """

    width: int
    special: int
    class_token: bool
    axes: tuple[Axis, ...]
    norm: nn.Module = field(default_factory=identity)
    pooled_norm: nn.Module = field(default_factory=identity)

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return math.prod(axis.size for axis in self.axes)

    @property
    def positions(self) -> int:
        """Number of tokens."""
        return self.special + self.patches

    @property
    def grid(self) -> tuple[Axis, ...]:
        """The axes in `AXIS_ORDER`, each once; () if the grid is unknown."""
        sizes = {
            name: math.prod(axis.size for axis in self.axes if axis.name == name)
            for name in AXIS_ORDER
            if any(axis.name == name for axis in self.axes)
        }
        known = math.prod(sizes.values()) == self.patches and bool(sizes)
        return tuple(Axis(name, size) for name, size in sizes.items()) if known else ()


def cells_of(block: BlockTokens, grid: Sequence[int], *, name: str) -> tuple[int, ...]:
    """The number of cells along each axis of the block's grid that `pool:RxC` asks for.

    Two numbers for a video are rows and columns, averaged over all of its time.

    Args:
        block: the output that is pooled.
        grid: the numbers of `pool:RxC` or `pool:TxRxC`.
        name: name of the encoder, for messages.

    Raises:
        UsageError: the grid is unknown, has other axes, or fewer patches than cells along one.
    """
    axes = block.grid
    option = f"--tokens pool:{'x'.join(map(str, grid))}"
    if not axes:
        raise UsageError(f"{option}: the patches of {name} form no known grid: use --tokens mean")
    cells = tuple(grid)
    if len(axes) == 3 and len(cells) == 2:
        cells = (1, *cells)
    if len(axes) == 1 and len(cells) == 2 and cells[1] == 1:
        cells = cells[:1]
    sizes = " x ".join(f"{axis.size} ({axis.name})" for axis in axes)
    example = "x".join(str(min(2, axis.size)) for axis in axes) + ("x1" if len(axes) == 1 else "")
    if len(cells) != len(axes) or any(
        count > axis.size for count, axis in zip(cells, axes, strict=False)
    ):
        raise UsageError(
            f"{option}: the patches of {name} are {sizes}: use e.g. --tokens pool:{example}"
        )
    return cells


def mean_patch(tokens: Tensor, block: BlockTokens) -> Tensor:
    """(B, 1, D) mean of the patch tokens of (B, special + patches, D)."""
    return tokens[:, block.special :].mean(dim=1, keepdim=True)


def pool_patches(tokens: Tensor, block: BlockTokens, cells: Sequence[int]) -> Tensor:
    """Average the patch tokens over the cells of a grid, as torch's adaptive average pooling does.

    Args:
        tokens: (B, special + patches, D).
        block: what the tokens are.
        cells: number of cells along each axis of `block.grid`.

    Returns:
        (B, cells, D), the cells in the order of `block.grid`, the first axis slowest.
    """
    patches = tokens[:, block.special :].unflatten(1, [axis.size for axis in block.axes])
    order = sorted(range(len(block.axes)), key=lambda axis: AXIS_ORDER.index(block.axes[axis].name))
    patches = patches.permute(0, -1, *(axis + 1 for axis in order))
    on_grid = patches.reshape(*patches.shape[:2], *(axis.size for axis in block.grid))
    averages = POOLINGS[len(cells)](on_grid, tuple(cells))
    return averages.flatten(2).transpose(1, 2)
