"""Learning rates, step by step."""

import math

from epalm.train.recipe import Schedule


def learning_rate(
    schedule: Schedule, peak: float, *, step: int, steps_per_epoch: int, epochs: int
) -> float:
    """The rate that the optimiser uses at a step.

    Args:
        schedule: its shape.
        peak: the recipe's `lr`.
        step: optimiser step, counted from 0 over all epochs.
        steps_per_epoch: optimiser steps in one epoch.
        epochs: number of epochs.
    """
    if schedule.kind == "published":
        epoch, within = divmod(step, steps_per_epoch)
        if epoch == 0:
            return _stair(schedule, peak, within)
        return _cosine(peak, schedule.min_lr, epoch / epochs)
    if step < schedule.warmup_steps:
        share = (step + 1) / schedule.warmup_steps
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * share
    past = step - schedule.warmup_steps
    total = max(steps_per_epoch * epochs - schedule.warmup_steps, 1)
    return _cosine(peak, schedule.min_lr, past / total)


def _stair(schedule: Schedule, peak: float, within: int) -> float:
    """The released scheduler is stepped behind every `stair_steps`-th optimiser step, from 0 on."""
    if schedule.warmup_steps == 0:
        return peak
    stair = min(max(within - 1, 0) // schedule.stair_steps, schedule.warmup_steps)
    return schedule.warmup_lr + (peak - schedule.warmup_lr) * stair / schedule.warmup_steps


def _cosine(peak: float, low: float, done: float) -> float:
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * done))
