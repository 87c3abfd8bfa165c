"""Supervised pretraining of encoders: a linear head answers several small questions at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def grouped_loss(logits: Tensor, classes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean cross-entropy over groups and examples.

    Args:
        logits: (B, sum of `sizes`).
        classes: (B, G) int64, the right class of every group.
        sizes: G numbers of classes.
    """
    parts = logits.split(list(sizes), dim=1)
    losses = [functional.cross_entropy(part, classes[:, g]) for g, part in enumerate(parts)]
    return torch.stack(losses).mean()


def grouped_accuracy(logits: Tensor, classes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Share of right classes of each group: (G,); arguments as of `grouped_loss`."""
    parts = logits.split(list(sizes), dim=1)
    guesses = torch.stack([part.argmax(dim=1) for part in parts], dim=1)
    return (guesses == classes).float().mean(dim=0)
