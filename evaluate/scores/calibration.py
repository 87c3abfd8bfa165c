"""Whether answers are as often right as the model is sure of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from epalm.evaluate.scores.eval_results import Evaluation

BINS = 10
"""Of equal width between 0 and 1, as Naeini, Cooper and Hauskrecht (2015) have them."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of like confidence: how many, their mean confidence and their mean score."""

    count: int
    confidence: float
    score: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence and score agree.

    Attributes:
        bins: those that hold answers, least sure first.
        error: the expected calibration error, mean distance of score and confidence over the
            bins, weighted by their answers (Naeini et al. 2015; Guo et al. 2017).
    """

    bins: tuple[Bin, ...]
    error: float


def calibrate(evaluation: Evaluation) -> Calibration | None:
    """Of answers to questions; None for captions, and where an answer's probability is unknown.

    A caption is not right or wrong; files of earlier versions hold no probabilities.
    """
    sure = [one.confidence for one in evaluation.answered]
    known = [one for one in sure if one is not None]
    if evaluation.kind == "caption" or not sure or len(known) < len(sure):
        return None
    metric = evaluation.example_metric
    return calibration_of(known, [one.scores[metric] for one in evaluation.answered])


def calibration_of(confidences: Sequence[float], scores: Sequence[float]) -> Calibration:
    """Of N confidences and N scores, all between 0 and 1, N at least 1."""
    sure, right = np.array(confidences), np.array(scores)
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = tuple(
        Bin(int(inside.sum()), float(sure[inside].mean()), float(right[inside].mean()))
        for inside in (places == place for place in range(BINS))
        if inside.any()
    )
    error = sum(one.count * abs(one.score - one.confidence) for one in bins) / len(sure)
    return Calibration(bins, error)
