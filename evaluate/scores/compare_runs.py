"""Paired comparison of runs that answered the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epalm.errors import DataError, UsageError
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.metrics.intervals import bootstrap_interval, known_interval

ROUNDS = 2000
"""Number of random sign flips for a p-value, which is at least 1 / (ROUNDS + 1)."""

SIGNIFICANT = 0.05
"""Significance level: the best run is marked only below this p-value."""

_SEED = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of the mean headline score of two runs over the same questions.

    Attributes:
        value: the difference, as a fraction.
        low: lower end of the 95 % interval, by bootstrap over pairs; None if all pairs have the
            same difference, as for equal runs.
        high: upper end of the 95 % interval; None as for `low`.
        p: two-sided p-value of a randomization test that swaps the answers of the runs.
    """

    value: float
    low: float | None
    high: float | None
    p: float


def check_comparable(evaluations: Sequence[Evaluation]) -> None:
    """Refuse evaluations without a common scale.

    Raises:
        DataError: an evaluation has no scores.
        UsageError: there are no evaluations, or they are of different tasks or splits.
    """
    for evaluation in evaluations:
        if not evaluation.scores:
            raise DataError(
                f"{evaluation.run} has no scores on {evaluation.split}, whose answers are not "
                "published: evaluate it on another split"
            )
    tasks = {(evaluation.task, evaluation.split, evaluation.headline) for evaluation in evaluations}
    if len(tasks) != 1:
        names = ", ".join(sorted(f"{task} {split} ({name})" for task, split, name in tasks))
        raise UsageError(
            f"a report compares runs on one task and split, found {names or 'no evaluation'}"
        )


def difference(other: Evaluation, first: Evaluation) -> Difference | None:
    """The difference of `other` to `first`, paired by question.

    Returns:
        None if they did not answer the same questions, or the headline is not a mean over them.
    """
    pairs = _pairs(other, first)
    if pairs is None:
        return None
    low, high = known_interval(*bootstrap_interval(pairs)) or (None, None)
    return Difference(float(pairs.mean()), low, high, randomization_p(pairs))


def best_of(evaluations: Sequence[Evaluation]) -> int | None:
    """Index of the evaluation whose headline is significantly above that of all others, if any."""
    if len(evaluations) < 2:
        return None
    values = [evaluation.scores[evaluation.headline].value for evaluation in evaluations]
    top = values.index(max(values))
    best = evaluations[top]
    others = [evaluation for evaluation in evaluations if evaluation is not best]
    return top if all(_above(best, other) for other in others) else None


def _above(other: Evaluation, first: Evaluation) -> bool:
    pairs = _pairs(other, first)
    return pairs is not None and pairs.sum() > 0 and randomization_p(pairs) < SIGNIFICANT


def _pairs(other: Evaluation, first: Evaluation) -> NDArray[np.float64] | None:
    """(N,) differences of the headline by question; None as in `difference`."""
    name = other.headline
    scores = {record.id: record.scores for record in first.predictions}
    same = scores.keys() == {record.id for record in other.predictions}
    records = (*first.predictions, *other.predictions)
    if not same or any(name not in record.scores for record in records):
        return None
    return np.array([record.scores[name] - scores[record.id][name] for record in other.predictions])


def randomization_p(pairs: NDArray[np.float64], *, rounds: int = ROUNDS) -> float:
    """Two-sided p-value of the mean of N differences by Fisher's randomization test.

    The test flips signs at random. The observed signs count as one round, so p is never 0.
    """
    generator = np.random.default_rng(_SEED)
    observed = abs(float(pairs.sum()))
    nonzero = pairs[pairs != 0]
    sums = np.array([generator.choice((-1.0, 1.0), len(nonzero)) @ nonzero for _ in range(rounds)])
    return float((1 + (np.abs(sums) >= observed - 1e-9).sum()) / (rounds + 1))
