"""Bootstrap confidence intervals of scores, and mean scores per group of examples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from epalm.errors import DataError
from epalm.metrics.metric_registry import Interval, Scores, Values

_MAX_BATCH_VALUES = 4_000_000
"""Largest number of values in one batch of resamples: 32 MB."""


def bootstrap_interval(
    values: Values, *, seed: int = 0, rounds: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: (N,) scores per example, N at least 1.
        seed: random seed of the resampling.
        rounds: number of resamples of N values, drawn with replacement.
        level: confidence level.

    Raises:
        DataError: no values.
    """
    count = len(values)
    mean = bootstrap_intervals(
        values[:, None], lambda sums: sums / count, seed=seed, rounds=rounds, level=level
    )
    return mean[0]


def bootstrap_intervals(
    statistics: Values,
    score: Callable[[Values], Values],
    *,
    seed: int = 0,
    rounds: int = 2000,
    level: float = 0.95,
) -> list[Interval]:
    """Percentile bootstrap intervals of corpus-level scores such as BLEU.

    Args:
        statistics: (N, S) statistics of each example, N at least 1. The scores must be functions of
            their sums over examples.
        score: (R, S) sums of R resamples -> (R, K) scores.
        seed: random seed of the resampling.
        rounds: number of resamples of N examples, drawn with replacement.
        level: confidence level.

    Returns:
        One interval for each of the K scores.

    Raises:
        DataError: no examples.
    """
    count = len(statistics)
    if count == 0:
        raise DataError("a confidence interval needs at least one value, found 0")
    generator = np.random.default_rng(seed)
    sums = np.empty((rounds, statistics.shape[1]))
    batch = max(1, _MAX_BATCH_VALUES // statistics.size)
    for start in range(0, rounds, batch):
        size = min(batch, rounds - start)
        drawn = generator.integers(count, size=(size, count))
        sums[start : start + size] = statistics[drawn].sum(axis=1)
    tail = (1 - level) / 2
    lows, highs = np.quantile(score(sums), (tail, 1 - tail), axis=0)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def all_intervals(scores: Scores) -> dict[str, Interval]:
    """The 95 % interval of every score, except those that `known_interval` rejects."""
    means = {name: column for name, column in scores.per_example.items() if name in scores.values}
    intervals = {
        name: scores.intervals[name]
        if name in scores.intervals
        else bootstrap_interval(means[name])
        for name in scores.values
        if name in scores.intervals or name in means
    }
    return {name: interval for name, interval in intervals.items() if known_interval(*interval)}


def known_interval(low: float, high: float) -> Interval | None:
    """The interval, or None if its width is 0.

    If all values are equal, so are all resamples; they say nothing about the uncertainty.
    """
    return (low, high) if low < high else None


@dataclass(frozen=True, slots=True)
class GroupMean:
    """Name, mean score and number of examples of one group."""

    name: str
    mean: float
    count: int


def group_means(values: Values, groups: Sequence[str]) -> list[GroupMean]:
    """Mean score per group, sorted by decreasing size, then by name.

    Args:
        values: (N,) scores per example.
        groups: N group names, e.g. question types; examples with an empty name are ignored.
    """
    members: dict[str, list[float]] = {}
    for value, name in zip(values, groups, strict=True):
        if name:
            members.setdefault(name, []).append(float(value))
    means = [GroupMean(name, float(np.mean(each)), len(each)) for name, each in members.items()]
    return sorted(means, key=lambda group: (-group.count, group.name))
