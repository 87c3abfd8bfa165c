"""How sure a score is, and how it divides over groups of questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from epalm.errors import DataError
from epalm.metrics.metric_registry import Interval, Scores, Values

_DRAWS_AT_ONCE = 4_000_000
"""Numbers in memory at a time: 32 MB."""


def bootstrap_interval(
    values: Values, *, seed: int = 0, rounds: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: (N,) scores per example, N at least 1.
        seed: the same seed gives the same interval.
        rounds: how many samples of N are drawn with replacement.
        level: share of the samples' means inside the interval.

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
    """Percentile bootstrap intervals of scores of a whole set, such as BLEU.

    Args:
        statistics: (N, S) of each example, N at least 1; what the scores need is their sum.
        score: (R, S) sums of R samples -> (R, K) scores.
        seed: the same seed gives the same intervals.
        rounds: how many samples of N are drawn with replacement.
        level: share of the samples' scores inside the interval.

    Returns:
        K intervals.

    Raises:
        DataError: no examples.
    """
    count = len(statistics)
    if count == 0:
        raise DataError("an interval needs at least one value, found 0")
    generator = np.random.default_rng(seed)
    sums = np.empty((rounds, statistics.shape[1]))
    batch = max(1, _DRAWS_AT_ONCE // statistics.size)
    for start in range(0, rounds, batch):
        size = min(batch, rounds - start)
        drawn = generator.integers(count, size=(size, count))
        sums[start : start + size] = statistics[drawn].sum(axis=1)
    tail = (1 - level) / 2
    lows, highs = np.quantile(score(sums), (tail, 1 - tail), axis=0)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def all_intervals(scores: Scores) -> dict[str, Interval]:
    """The 95 % interval of every score that has one; see `known_interval`."""
    means = {name: column for name, column in scores.per_example.items() if name in scores.values}
    found = {
        name: scores.intervals[name]
        if name in scores.intervals
        else bootstrap_interval(means[name])
        for name in scores.values
        if name in scores.intervals or name in means
    }
    return {name: interval for name, interval in found.items() if known_interval(*interval)}


def known_interval(low: float, high: float) -> Interval | None:
    """The interval, or None for one without width.

    Samples of equal values are all the same: they say nothing of how far another set would differ.
    """
    return (low, high) if low < high else None


@dataclass(frozen=True, slots=True)
class GroupMean:
    """The mean score of one group of examples and how many they are."""

    name: str
    mean: float
    count: int


def group_means(values: Values, groups: Sequence[str]) -> list[GroupMean]:
    """Mean score per group, largest group first, equal ones by name.

    Args:
        values: (N,) scores per example.
        groups: N names, such as question types; examples with an empty name are left out.
    """
    members: dict[str, list[float]] = {}
    for value, name in zip(values, groups, strict=True):
        if name:
            members.setdefault(name, []).append(float(value))
    means = [GroupMean(name, float(np.mean(each)), len(each)) for name, each in members.items()]
    return sorted(means, key=lambda group: (-group.count, group.name))
