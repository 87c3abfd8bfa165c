"""How sure a score is, and how it divides over groups of questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epalm.errors import DataError
from epalm.metrics.registry import Values

_DRAWS_AT_ONCE = 4_000_000
"""Indices in memory at a time: 32 MB."""


def bootstrap_interval(
    values: Values, *, seed: int = 0, rounds: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979).

    Args:
        values: (N,) scores per example, N at least 1.
        seed: the same seed gives the same interval.
        rounds: how many samples of N are drawn with replacement.
        level: share of the samples' means inside the interval.

    Returns:
        Lower and upper end.

    Raises:
        DataError: no values.
    """
    count = len(values)
    if count == 0:
        raise DataError("an interval needs at least one value, found 0")
    generator = np.random.default_rng(seed)
    means = np.empty(rounds)
    batch = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, rounds, batch):
        size = min(batch, rounds - start)
        drawn = generator.integers(count, size=(size, count))
        means[start : start + size] = values[drawn].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)


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
