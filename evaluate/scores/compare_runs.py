"""How far runs differ that answered the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epalm.errors import DataError, UsageError
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.metrics.intervals import bootstrap_interval, known_interval

ROUNDS = 2000
"""Random exchanges behind a p-value; it is at least 1 / (ROUNDS + 1)."""

SIGNIFICANT = 0.05
"""A difference of a smaller p-value is called one."""

_SEED = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """The headline's mean of one run less that of another, over the same questions.

    Attributes:
        value: as a fraction.
        low: lower end of the 95 % interval, by bootstrap over pairs; None where all pairs differ
            alike, as those of equal runs.
        high: upper end, likewise.
        p: chance of a difference this large if it were random which run gave which answer.
    """

    value: float
    low: float | None
    high: float | None
    p: float


def check_comparable(evaluations: Sequence[Evaluation]) -> None:
    """Refuse what has no common scale.

    Raises:
        DataError: an evaluation has no scores.
        UsageError: no evaluations, or evaluations of different tasks or splits.
    """
    for one in evaluations:
        if not one.scores:
            raise DataError(
                f"{one.run} has no scores on {one.split}, whose answers are not published: "
                "evaluate it on another split"
            )
    tasks = {(one.task, one.split, one.headline) for one in evaluations}
    if len(tasks) != 1:
        found = ", ".join(sorted(f"{task} {split} ({name})" for task, split, name in tasks))
        raise UsageError(
            f"a report compares runs on one task and split, found {found or 'no evaluation'}"
        )


def difference(other: Evaluation, first: Evaluation) -> Difference | None:
    """Of `other` less `first`, question by question.

    Returns:
        None where they did not answer the same questions, or the headline is no mean over them.
    """
    pairs = _pairs(other, first)
    if pairs is None:
        return None
    low, high = known_interval(*bootstrap_interval(pairs)) or (None, None)
    return Difference(float(pairs.mean()), low, high, exchange_p(pairs))


def best_of(evaluations: Sequence[Evaluation]) -> int | None:
    """The place of the evaluation whose headline is significantly above that of every other."""
    if len(evaluations) < 2:
        return None
    values = [one.scores[one.headline].value for one in evaluations]
    top = values.index(max(values))
    best = evaluations[top]
    return top if all(_above(best, one) for one in evaluations if one is not best) else None


def _above(other: Evaluation, first: Evaluation) -> bool:
    pairs = _pairs(other, first)
    return pairs is not None and pairs.sum() > 0 and exchange_p(pairs) < SIGNIFICANT


def _pairs(other: Evaluation, first: Evaluation) -> NDArray[np.float64] | None:
    """(N,) differences of the headline; None as in `difference`."""
    name = other.headline
    scores = {one.id: one.scores for one in first.answered}
    same = scores.keys() == {one.id for one in other.answered}
    if not same or any(name not in one.scores for one in (*first.answered, *other.answered)):
        return None
    return np.array([one.scores[name] - scores[one.id][name] for one in other.answered])


def exchange_p(pairs: NDArray[np.float64], *, rounds: int = ROUNDS) -> float:
    """Two-sided p-value of a mean of N differences under random signs (Fisher's randomisation).

    The observed signs count as one of the rounds, so that it is never 0.
    """
    generator = np.random.default_rng(_SEED)
    observed = abs(float(pairs.sum()))
    moved = pairs[pairs != 0]
    sums = np.array([generator.choice((-1.0, 1.0), len(moved)) @ moved for _ in range(rounds)])
    return float((1 + (np.abs(sums) >= observed - 1e-9).sum()) / (rounds + 1))
