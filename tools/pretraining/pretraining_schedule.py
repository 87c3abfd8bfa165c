"""What both pretraining scripts share: the learning-rate schedule and the optimiser step."""

import math

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

FINAL_FACTOR = 0.02

LARGEST_NORM = 1.0
"""Of the gradient over all parameters."""


def cosine_schedule(optimiser: Optimizer, steps: int, *, warmup: int) -> LambdaLR:
    """Linear warm-up over `warmup` steps, times a cosine down to `FINAL_FACTOR` over `steps`."""

    def factor(step: int) -> float:
        wave = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        return min(1.0, (step + 1) / warmup) * (FINAL_FACTOR + (1 - FINAL_FACTOR) * wave)

    return LambdaLR(optimiser, factor)


def descend(loss: Tensor, optimiser: Optimizer, schedule: LambdaLR) -> None:
    """One optimiser step down the clipped gradient, and one of the schedule."""
    optimiser.zero_grad()
    loss.backward()
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    clip_grad_norm_(weights, LARGEST_NORM)
    optimiser.step()
    schedule.step()
