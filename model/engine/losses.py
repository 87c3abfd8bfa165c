"""Cross-entropy of a frozen language-model head, without keeping its logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from epalm.model.engine.onednn_linear import multiply, multiply_transposed
from epalm.model.families.decoder_parts import capped

CHUNK_TOKENS = 256
"""Tokens whose logits are in memory at one time: 51 MB in float32 with OPT's 50,272 words."""


@dataclass(frozen=True)
class TokenLosses:
    """Cross-entropies of a batch.

    Attributes:
        values: (M) float32, one per supervised token.
        examples: (M) int64, the example (row of the batch) of each token.
        batch_size: B.
    """

    values: Tensor
    examples: Tensor
    batch_size: int

    def per_example(self) -> Tensor:
        """(B) float32: each example's sum, the official implementation's loss."""
        return self.values.new_zeros(self.batch_size).index_add(0, self.examples, self.values)


def head_losses(
    states: Tensor,
    head: nn.Linear,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """Cross-entropies of `head(states)`, as `torch.nn.functional.cross_entropy` defines them.

    If the head is frozen, backward only needs the gradient of the states. The forward pass
    computes it together with the loss, chunk by chunk, so that no logits are kept for backward.

    Args:
        states: (M, H).
        head: linear map from H to the vocabulary.
        targets: (M) int64.
        label_smoothing: probability mass spread over the vocabulary.
        softcap: bound of the logits, or none.

    Returns:
        (M) float32.
    """
    if head.weight.requires_grad:
        logits = capped(head(states).float(), softcap)
        return cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    losses: Tensor = _HeadLosses.apply(states, head, targets, label_smoothing, softcap)
    return losses


class _HeadLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context, untyped
        states: Tensor,
        head: nn.Linear,
        targets: Tensor,
        label_smoothing: float,
        softcap: float | None,
    ) -> Tensor:
        losses = states.new_empty(len(states), dtype=torch.float32)
        needs_gradient = ctx.needs_input_grad[0]
        gradient = torch.empty_like(states) if needs_gradient else states.new_empty(0)
        for start in range(0, len(states), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            logits = capped(multiply(head, states[chunk]).float(), softcap)
            slope = None if softcap is None else 1 - (logits / softcap).square()
            target = targets[chunk, None]
            logits.sub_(logits.amax(dim=1, keepdim=True))
            mean = _target_mean(logits, target, label_smoothing)
            total = logits.exp_().sum(dim=1)
            losses[chunk] = total.log() - mean
            if needs_gradient:  # probabilities minus target probabilities
                logits.div_(total[:, None])
                logits.scatter_add_(1, target, torch.full_like(logits[:, :1], label_smoothing - 1))
                if label_smoothing:
                    logits.sub_(label_smoothing / logits.shape[1])
                if slope is not None:  # derivative of the bounded logits
                    logits.mul_(slope)
                gradient[chunk] = multiply_transposed(head, logits.to(states.dtype))
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None].to(gradient.dtype), None, None, None, None


def _target_mean(logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    """(M) mean logit under the target distribution."""
    target_logit = logits.gather(1, target).squeeze(1)
    if not label_smoothing:
        return target_logit
    return (1 - label_smoothing) * target_logit + label_smoothing * logits.mean(dim=1)
