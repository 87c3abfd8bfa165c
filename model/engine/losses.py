"""Cross-entropy of a frozen head without keeping its logits."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from epalm.model.engine.onednn_linear import multiply, multiply_back

CHUNK_ROWS = 256
"""Rows whose logits exist at one time: 51 MB in float32 over OPT's 50,272 words."""


@dataclass(frozen=True)
class TokenLosses:
    """Cross-entropies of a batch.

    Attributes:
        values: (M) float32, one per supervised token.
        samples: (M) int64, the sample of each.
        batch: B.
    """

    values: Tensor
    samples: Tensor
    batch: int

    def per_sample(self) -> Tensor:
        """(B) float32: each sample's sum, the released code's loss."""
        return self.values.new_zeros(self.batch).index_add(0, self.samples, self.values)


def head_losses(
    states: Tensor, head: nn.Linear, targets: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Cross-entropies of `head(states)`, as `torch.nn.functional.cross_entropy` defines them.

    If the head is frozen, the gradient of the states is all that backward needs. It is
    computed chunk by chunk beside the loss, in place of logits that would wait for backward.

    Args:
        states: (M, H).
        head: (H) to (vocabulary), without bias.
        targets: (M) int64.
        label_smoothing: mass spread over the vocabulary.

    Returns:
        (M) float32.
    """
    if head.weight.requires_grad:
        logits = head(states).float()
        return cross_entropy(logits, targets, reduction="none", label_smoothing=label_smoothing)
    losses: Tensor = _HeadLosses.apply(states, head, targets, label_smoothing)
    return losses


class _HeadLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context, untyped
        states: Tensor,
        head: nn.Linear,
        targets: Tensor,
        label_smoothing: float,
    ) -> Tensor:
        losses = states.new_empty(len(states), dtype=torch.float32)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(states) if wanted else states.new_empty(0)
        for start in range(0, len(states), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            logits = multiply(head, states[rows]).float()
            chosen = targets[rows, None]
            logits.sub_(logits.amax(dim=1, keepdim=True))
            mean = _target_mean(logits, chosen, label_smoothing)
            total = logits.exp_().sum(dim=1)
            losses[rows] = total.log() - mean
            if wanted:  # probabilities, minus what they should be
                logits.div_(total[:, None])
                logits.scatter_add_(1, chosen, torch.full_like(logits[:, :1], label_smoothing - 1))
                if label_smoothing:
                    logits.sub_(label_smoothing / logits.shape[1])
                gradient[rows] = multiply_back(head, logits.to(states.dtype))
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return gradient * upstream[:, None].to(gradient.dtype), None, None, None


def _target_mean(logits: Tensor, chosen: Tensor, label_smoothing: float) -> Tensor:
    """(M) mean logit under the target distribution."""
    own = logits.gather(1, chosen).squeeze(1)
    if not label_smoothing:
        return own
    return (1 - label_smoothing) * own + label_smoothing * logits.mean(dim=1)
