"""The norm that turns the last block's tokens into the model's own output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from epalm.extract.encoders.tokens.block_tokens import BlockTokens, identity

NORM_TOLERANCE = 1e-4
"""Largest difference of normed tokens from the model's own output, due to rounding."""


@dataclass(frozen=True)
class Norms:
    """The norms of the tokens of a block, see `BlockTokens`."""

    norm: nn.Module
    pooled_norm: nn.Module


def norm_name(outputs: Sequence[BlockTokens]) -> str:
    """What the tokens of the blocks are normed by, for the fingerprint."""
    last = outputs[-1].norm
    if isinstance(last, nn.Identity):
        return "none"
    stages = outputs[0].norm
    return "final" if stages is last or isinstance(stages, nn.Identity) else "of the stage"


def find_norms(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    *,
    states: Tensor,
    output: Any,  # noqa: ANN401 - each model has its own output class
    special: int,
    class_token: bool,
) -> Norms | None:
    """Find the norms outside the blocks that give the model's own output.

    Args:
        model: the whole model.
        blocks: blocks of the model.
        states: (B, tokens, D) output of the last block.
        output: output of the model.
        special: number of tokens before the patches.
        class_token: whether position 0 is a class token.

    Returns:
        The norms; the identity where the model has none. None if no norm, nor the identity, gives
        the model's own output.
    """
    last, pooled = (getattr(output, name, None) for name in ("last_hidden_state", "pooler_output"))
    own = [out for out in (_as_tokens(last), pooled) if out is not None]
    candidates = list(_norms(model, blocks, states.shape[-1]))
    with torch.inference_mode():
        mean = states[:, special:].mean(dim=1)
        pooled_norm = next(
            (norm for norm in candidates if pooled is not None and _equal(norm(mean), pooled)),
            identity(),
        )
        if not class_token and _equal(states, own[0] if own else None):
            return Norms(identity(), pooled_norm)
        for norm in candidates:
            if _gives(norm(states), own, special=special, class_token=class_token):
                return Norms(norm, identity())
    unchanged = _equal(states, own[0] if own else None)
    return Norms(identity(), pooled_norm) if unchanged else None


def _norms(model: nn.Module, blocks: Sequence[nn.Module], width: int) -> Iterator[nn.Module]:
    """Norms of vectors outside the blocks.

    The last one comes first: in an untrained model, a norm before the blocks computes the same.
    """
    inside = {id(module) for block in blocks for module in block.modules()}
    for module in reversed(list(model.modules())):
        if id(module) in inside or not type(module).__name__.endswith("Norm"):
            continue
        if getattr(module, "weight", None) is not None and module.weight.shape == (width,):
            yield module


def _gives(normed: Tensor, own: Sequence[Tensor], *, special: int, class_token: bool) -> bool:
    """Whether normed tokens are the model's own: all, its [CLS], or the mean of its patches."""
    for out in own:
        if out.dim() == 3 and class_token:
            out = out[:, 0]
        if _equal(normed, out) or (class_token and _equal(normed[:, 0], out)):
            return True
        if not class_token and _equal(normed[:, special:].mean(dim=1), out):
            return True
    return False


def _as_tokens(states: Tensor | None) -> Tensor | None:
    """(B, tokens, D) of the model's last hidden state, which may have two spatial axes."""
    return states.flatten(2).transpose(1, 2) if states is not None and states.dim() == 4 else states


def _equal(one: Tensor, other: Tensor | None) -> bool:
    return (
        other is not None
        and one.shape == other.shape
        and torch.allclose(one, other.float(), rtol=0, atol=NORM_TOLERANCE)
    )
