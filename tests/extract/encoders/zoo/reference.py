"""Token policies by hooks on a library's own model, independent of the package."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def nothing(tokens: Tensor) -> Tensor:
    """No norm."""
    return tokens


@dataclass(frozen=True)
class Stock:
    """A library's own model, and what is known of its architecture.

    Attributes:
        model: the model with random weights.
        run: runs the model over a batch of the encoder's inputs.
        blocks: the blocks.
        grid: (B, tokens or channels, ...) output of a block -> its patches, (B, *axes, D), the axes
            in the order time, frequency, rows, columns.
        special: class tokens and registers, which come first.
        class_token: whether the first of them is [CLS].
        norm: final norm of tokens.
        pooled_norm: norm of averages.
        attention_pool: normed tokens of the last block -> output of the model's own pooling.
        pool: a value of --tokens that fits the grid.
        kept: blocks to compare; all have tokens of the same shape.
    """

    model: nn.Module
    run: Callable[[Tensor], Any]
    blocks: Sequence[nn.Module]
    grid: Callable[[Tensor], Tensor]
    special: int = 0
    class_token: bool = False
    norm: Callable[[Tensor], Tensor] = nothing
    pooled_norm: Callable[[Tensor], Tensor] = nothing
    attention_pool: Callable[[Tensor], Tensor] | None = None
    pool: str = "pool:2x2"
    kept: tuple[int, ...] = (0, 2)

    def policies(self) -> list[str]:
        """The policies that the model offers."""
        cls, pooled = self.class_token, self.attention_pool is not None
        return ["cls"] * cls + ["mean", self.pool, "all"] + ["map"] * pooled


def expected(stock: Stock, policy: str, inputs: Tensor) -> Tensor:
    """(B, tokens of all kept blocks, D) by hooks on the model's blocks."""
    states = hooked(stock, inputs)
    if policy == "map":
        assert stock.attention_pool is not None
        with torch.inference_mode():
            return stock.attention_pool(stock.norm(flat(states[-1])))[:, None]
    return torch.cat([_kept(stock, policy, states[layer]) for layer in stock.kept], dim=1)


def hooked(stock: Stock, inputs: Tensor) -> list[Tensor]:
    """The output of every block."""
    states: list[Tensor] = []
    handles = [
        block.register_forward_hook(
            lambda _block, _inputs, out: states.append(out[0] if isinstance(out, tuple) else out)
        )
        for block in stock.blocks
    ]
    with torch.inference_mode():
        stock.run(inputs)
    for handle in handles:
        handle.remove()
    return states


def flat(states: Tensor) -> Tensor:
    """(B, tokens, D); nothing but tokens is flattened here."""
    assert states.dim() == 3
    return states


def _kept(stock: Stock, policy: str, states: Tensor) -> Tensor:
    with torch.inference_mode():
        if policy == "cls":
            return stock.norm(states)[:, :1]
        if policy == "all":
            patches = stock.grid(states[:, stock.special :] if stock.special else states)
            return stock.norm(states if states.dim() == 3 else patches.flatten(1, -2))
        patches = stock.grid(states[:, stock.special :] if stock.special else states)
        normed = stock.norm(patches.flatten(1, -2)).reshape(patches.shape)
        if policy == "mean":
            return stock.pooled_norm(normed.flatten(1, -2).mean(1, keepdim=True))
        counts = [int(number) for number in policy.removeprefix("pool:").split("x")]
        return stock.pooled_norm(torch.stack(averages(normed, counts), dim=1))


def averages(patches: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """The mean of (B, *axes, D) in each cell, the last axis fastest.

    Cell c of n along an axis of s patches goes from floor(c s / n) to ceil((c + 1) s / n).
    """
    axes = patches.shape[1:-1]
    counts = [1] * (len(axes) - len(counts)) + list(counts)[: len(axes)]
    cells = [patches]
    for axis, (size, count) in enumerate(zip(axes, counts, strict=True)):
        bounds = [(c * size // count, -(-(c + 1) * size // count)) for c in range(count)]
        cells = [cell.narrow(axis + 1, a, b - a) for cell in cells for a, b in bounds]
    return [cell.flatten(1, -2).mean(1) for cell in cells]


def rows_of(columns: int) -> Callable[[Tensor], Tensor]:
    """(B, patches, D) listed by row -> (B, rows, columns, D)."""
    return lambda patches: patches.unflatten(1, (-1, columns))
