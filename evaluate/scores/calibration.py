"""Calibration: how well the confidence of answers agrees with their scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epalm.evaluate.scores.eval_results import Evaluation

BINS = 10
"""Number of bins of equal width between 0 and 1, as in Naeini, Cooper and Hauskrecht (2015)."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of similar confidence: their number, mean confidence and mean score."""

    count: int
    confidence: float
    score: float


@dataclass(frozen=True)
class Calibration:
    """Agreement of confidence and score.

    Attributes:
        bins: non-empty bins, lowest confidence first.
        error: expected calibration error, the mean distance of score and confidence over the bins,
            weighted by their numbers of answers (Naeini et al. 2015; Guo et al. 2017).
    """

    bins: tuple[Bin, ...]
    error: float


def calibrate(evaluation: Evaluation) -> Calibration | None:
    """The calibration of answers to questions.

    Returns:
        None for captions, which are not right or wrong, and for files of earlier versions, which
        have no probabilities.
    """
    confidences = [record.confidence for record in evaluation.predictions]
    known = [confidence for confidence in confidences if confidence is not None]
    if evaluation.kind == "caption" or not confidences or len(known) < len(confidences):
        return None
    metric = evaluation.example_metric
    return calibration_of(known, [record.scores[metric] for record in evaluation.predictions])


def calibration_of(confidences: Sequence[float], scores: Sequence[float]) -> Calibration:
    """The calibration of N >= 1 confidences and N scores, all between 0 and 1."""
    confidence, score = np.array(confidences), np.array(scores)
    bin_indices = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(score[inside].mean()))
        for inside in (bin_indices == index for index in range(BINS))
        if inside.any()
    )
    distances = [group.count * abs(group.score - group.confidence) for group in bins]
    return Calibration(bins, sum(distances) / len(confidence))
