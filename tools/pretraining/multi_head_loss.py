"""Loss and accuracy of several classifiers that share one linear head."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def multi_head_loss(logits: Tensor, classes: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean cross-entropy over groups of classes and examples.

    Args:
        logits: (B, sum of `sizes`) logits of all groups.
        classes: (B, G) int64, correct class of every group.
        sizes: number of classes of each of the G groups.
    """
    parts = logits.split(list(sizes), dim=1)
    losses = [functional.cross_entropy(part, classes[:, g]) for g, part in enumerate(parts)]
    return torch.stack(losses).mean()


def multi_head_accuracy(logits: Tensor, classes: Tensor, sizes: Sequence[int]) -> Tensor:
    """(G,) accuracy of each group; the arguments are those of `multi_head_loss`."""
    parts = logits.split(list(sizes), dim=1)
    predictions = torch.stack([part.argmax(dim=1) for part in parts], dim=1)
    return (predictions == classes).float().mean(dim=0)
