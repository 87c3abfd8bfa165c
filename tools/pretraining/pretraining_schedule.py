"""Learning-rate schedule and optimizer step of the pretraining scripts."""

import math

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

FINAL_FACTOR = 0.02

MAX_GRAD_NORM = 1.0
"""Maximum norm of the gradient over all parameters; larger ones are clipped."""


def cosine_schedule(optimizer: Optimizer, steps: int, *, warmup: int) -> LambdaLR:
    """Linear warm-up over `warmup` steps, times a cosine down to `FINAL_FACTOR` over `steps`."""

    def factor(step: int) -> float:
        wave = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        return min(1.0, (step + 1) / warmup) * (FINAL_FACTOR + (1 - FINAL_FACTOR) * wave)

    return LambdaLR(optimizer, factor)


def optimizer_step(loss: Tensor, optimizer: Optimizer, schedule: LambdaLR) -> None:
    """Backward pass, gradient clipping, one optimizer step and one step of the schedule."""
    optimizer.zero_grad()
    loss.backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    clip_grad_norm_(weights, MAX_GRAD_NORM)
    optimizer.step()
    schedule.step()
