"""What the tokens of a model are, found by running it and not by its name."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from epalm.errors import ModelError
from epalm.extract.encoders.frozen_forward import capture_outputs
from epalm.extract.encoders.tokens.block_tokens import PATCH, Axis, image_grid

CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")
"""Last parts of the names of the class token's parameter."""

TOLERANCE = 1e-4
"""Largest difference between two runs over the same input, due to rounding."""

SAME = 1e-6
"""Largest change of an embedding that does not depend on the input."""


@dataclass(frozen=True)
class Runnable:
    """A model, how to run it, and where its blocks are.

    Attributes:
        name: name of the encoder, for messages.
        model: the model in evaluation mode.
        blocks: blocks of the model, in order.
        run: runs the model over a batch of inputs.
        as_tokens: makes (B, tokens, D) of the output of a block, and of the input of the first.
    """

    name: str
    model: nn.Module
    blocks: Sequence[nn.Module]
    run: Callable[[Tensor], Any]
    as_tokens: Callable[[Tensor], Tensor]


class _Embedded(Exception):
    """Ends a run before the first block."""


def embeddings(model: Runnable, batch: Tensor) -> Tensor:
    """The input of the first block, (B, tokens, D), without running any block."""
    captured: list[Tensor] = []

    def record(_block: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        values = (*arguments, *named.values())
        captured.append(next(value for value in values if isinstance(value, Tensor)))
        raise _Embedded

    handle = model.blocks[0].register_forward_pre_hook(record, with_kwargs=True)
    try:
        with torch.inference_mode():
            model.run(batch)
    except _Embedded:
        return model.as_tokens(captured[0]).float()
    finally:
        handle.remove()
    raise ModelError(f"{model.name} does not run its blocks: choose another --encoder")


def block_outputs(model: Runnable, batch: Tensor) -> tuple[list[Tensor], Any]:
    """The output of every block as tokens, and that of the model.

    Raises:
        ModelError: the model cannot be run on its inputs alone, two runs differ, or an output is
            not finite.
    """
    try:
        with (
            torch.inference_mode(),
            capture_outputs(model.blocks, as_tokens=model.as_tokens) as states,
        ):
            output, _ = model.run(batch), model.run(batch)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{model.name} cannot be run on its inputs alone: {reason}") from error
    if not all(tokens.isfinite().all() for tokens in states):
        raise ModelError(
            f"{model.name} computes tokens that are not finite numbers: its weights or settings "
            "are damaged; get the files again"
        )
    first, second = states[: len(model.blocks)], states[len(model.blocks) :]
    if len(first) != len(second) or not all(
        one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=TOLERANCE)
        for one, other in zip(first, second, strict=True)
    ):
        raise ModelError(
            f"{model.name} gives different tokens in each run: choose another --encoder"
        )
    return first, output


def count_special(model: Runnable, embedded: Tensor) -> int:
    """The number of tokens before the patches: those whose embedding is the same for two inputs.

    Args:
        model: the model.
        embedded: (2 or more, tokens, D) embeddings of different inputs.

    Raises:
        ModelError: there are such tokens after the first patch.
    """
    fixed = (embedded[0] - embedded[1]).abs().amax(dim=-1) <= SAME
    special = int(fixed.long().cumprod(0).sum())
    if fixed[special:].any():
        raise ModelError(
            f"{model.name} has tokens that no input changes after its first patch, at position "
            f"{int(fixed[special:].nonzero()[0]) + special}: choose another --encoder"
        )
    return special


def has_class_token(model: Runnable, batch: Tensor, embedded: Tensor) -> bool:
    """Whether the embedding at position 0 is made of the parameter of a class token.

    A class token elsewhere, e.g. the query of a pooling head, does not count: the parameter is
    changed for a moment, and position 0 must change with it.

    Args:
        model: the model.
        batch: inputs.
        embedded: their embeddings, whose position 0 does not depend on the input.
    """
    for name, parameter in model.model.named_parameters():
        if name.rpartition(".")[2] in CLASS_TOKENS:
            with _changed(parameter):
                moved = embeddings(model, batch)
            if (moved[:, 0] - embedded[:, 0]).abs().max() > SAME:
                return True
    return False


@contextmanager
def _changed(parameter: nn.Parameter) -> Iterator[None]:
    """Add random numbers to a parameter in the context."""
    original = parameter.detach().clone()
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        parameter.add_(noise.to(original))
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(original)


def square_axes(patches: int, *, leading: Sequence[Axis] = ()) -> tuple[Axis, ...]:
    """The axes of a square grid of patches after some other axes; unknown if it is not square."""
    before = math.prod(axis.size for axis in leading)
    side = isqrt(patches // before)
    axes = (*leading, *image_grid(side, side))
    return axes if before * side * side == patches else (Axis(PATCH, patches),)
