"""A description of the tokens of every block, from runs of the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from epalm.extract.encoders.inputs.model_input import ModelInput
from epalm.extract.encoders.tokens.block_tokens import PATCH, Axis, BlockTokens
from epalm.extract.encoders.tokens.model_norms import Norms
from epalm.extract.encoders.tokens.probe import (
    SAME,
    Runnable,
    block_outputs,
    count_special,
    embeddings,
    has_class_token,
)


@dataclass(frozen=True)
class Run:
    """What a model gave for two inputs.

    Attributes:
        states: output of every block, (2, tokens, D) each.
        output: output of the model.
        special: number of tokens before the patches.
        class_token: whether position 0 is a class token.
    """

    states: Sequence[Tensor]
    output: Any
    special: int
    class_token: bool


def describe(
    model: Runnable, model_input: ModelInput, find_norms: Callable[[Run], Sequence[Norms]]
) -> list[BlockTokens]:
    """Describe the tokens of every block.

    Args:
        model: the model.
        model_input: input of the model, with the axes of its patches.
        find_norms: gives the norms of every block.

    Raises:
        ModelError: the model cannot be run, or its runs differ.
    """
    batch = model_input.random_batch()
    states, output = block_outputs(model, batch)
    embedded = embeddings(model, batch)
    special = count_special(model, embedded)
    class_token = special > 0 and has_class_token(model, batch, embedded)
    norms = find_norms(Run(states, output, special, class_token))
    known = _grid_is_right(model, model_input, batch, special=special)
    described: list[BlockTokens] = []
    for block, of_block in zip(states, norms, strict=True):
        patches = block.shape[1] - special
        axes = model_input.axes(patches) if known else (Axis(PATCH, patches),)
        tokens = BlockTokens(block.shape[-1], special, class_token, axes)
        described.append(replace(tokens, norm=of_block.norm, pooled_norm=of_block.pooled_norm))
    return described


def _grid_is_right(
    model: Runnable, model_input: ModelInput, batch: Tensor, *, special: int
) -> bool:
    """Whether a changed corner of an image shows where the grid has it; True if not an image."""
    embedded = embeddings(model, batch[:1])
    corner = model_input.corner_index(batch, embedded.shape[1] - special)
    if corner is None:
        return True
    changed, expected, opposite = corner
    moved = (embeddings(model, changed) - embedded)[0, special:].abs().amax(dim=-1) > SAME
    return bool(moved[expected]) and not bool(moved[opposite])
