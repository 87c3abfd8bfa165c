"""The learning rate of every step."""

import logging
import math

from epalm.train.config.recipe import Recipe, Schedule

logger = logging.getLogger(__name__)


def learning_rate(
    schedule: Schedule, peak: float, *, step: int, steps_per_epoch: int, epochs: int
) -> float:
    """The learning rate that the optimizer uses at a step.

    Args:
        schedule: shape of the curve.
        peak: the recipe's `lr`.
        step: optimizer step, counted from 0 over all epochs.
        steps_per_epoch: optimizer steps in one epoch.
        epochs: number of epochs.
    """
    if schedule.kind == "published":
        epoch, within = divmod(step, steps_per_epoch)
        if epoch == 0:
            return _stair(schedule, peak, within)
        return _cosine(peak, schedule.min_lr, epoch / epochs)
    warmup = warmup_length(schedule, steps_per_epoch * epochs)
    if step < warmup:
        fraction = (step + 1) / warmup
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * fraction
    past = step - warmup
    total = max(steps_per_epoch * epochs - warmup, 1)
    return _cosine(peak, schedule.min_lr, past / total)


def warmup_length(schedule: Schedule, total_steps: int) -> int:
    """Number of warm-up steps in a run of `total_steps`."""
    if schedule.warmup_fraction:
        return round(schedule.warmup_fraction * total_steps)
    return schedule.warmup_steps * (schedule.stair_steps if schedule.kind == "published" else 1)


def warn_of_long_warmup(recipe: Recipe, examples: int) -> None:
    """Log a warning if warm-up is longer than the run, whose learning rate then stays below `lr`.

    Args:
        recipe: recipe of the run.
        examples: number of training examples.
    """
    total = -(-examples // recipe.batch_size) * recipe.epochs
    warmup = warmup_length(recipe.schedule, total)
    if warmup <= total:
        return
    advice = "" if recipe.schedule.kind == "published" else " or --set schedule.warmup_fraction=0.1"
    logger.warning(
        "warm-up takes %d steps, the run has %d: the learning rate never reaches %g; give "
        "fewer with --set schedule.warmup_steps=%d%s",
        warmup,
        total,
        recipe.lr,
        total // 10 // (warmup // recipe.schedule.warmup_steps),
        advice,
    )


def _stair(schedule: Schedule, peak: float, within: int) -> float:
    """The official scheduler is stepped after every `stair_steps`-th optimizer step, from 0 on."""
    if schedule.warmup_steps == 0:
        return peak
    stair = min(max(within - 1, 0) // schedule.stair_steps, schedule.warmup_steps)
    return schedule.warmup_lr + (peak - schedule.warmup_lr) * stair / schedule.warmup_steps


def _cosine(peak: float, low: float, done: float) -> float:
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * done))
