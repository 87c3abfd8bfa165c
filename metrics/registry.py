"""The metrics by name, what a metric is, and how predictions meet their examples."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from epalm.entries import find_entry
from epalm.errors import DataError
from epalm.tasks.records import Example, Prediction

Values = NDArray[np.float64]

METRICS: dict[str, str] = {
    "vqa": "epalm.metrics.vqa_accuracy:score_vqa",
    "exact": "epalm.metrics.exact:score_exact",
    "label": "epalm.metrics.exact:score_label",
    "caption": "epalm.metrics.captioning:score_captions",
}
"""Metric name -> "module:function"."""


@dataclass(frozen=True)
class Scores:
    """What a metric says about a set of predictions.

    Attributes:
        values: corpus scores as fractions of one; CIDEr as the toolkit gives it (at most 10).
        per_example: (N,) scores in the order of the examples, for those of `values` that are the
            mean of such scores.
        headline: the key of `values` that selects checkpoints and leads every table.
    """

    values: dict[str, float]
    per_example: dict[str, Values]
    headline: str


Metric = Callable[[Sequence[Prediction], Sequence[Example]], Scores]


def load_metric(name: str) -> Metric:
    """The metric of this name, ready to be used.

    A metric's module may define `require_tools()`, which checks for outside programs; it is called
    here, so that a missing one is noticed before anything is generated.

    Args:
        name: a key of `METRICS`, or `package.module:function`.

    Raises:
        UsageError: no such metric; lists the known ones.
        MissingToolError: the metric needs a program that is not installed.
    """
    metric: Metric = find_entry(name, METRICS, what="metric")
    module = sys.modules[metric.__module__]
    getattr(module, "require_tools", lambda: None)()
    return metric


def texts_in_order(predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[str]:
    """The predicted text of each example, in the order of the examples.

    Args:
        predictions: one for each example, in any order; matched by `question_id`.
        examples: see `check_scorable`.

    Raises:
        DataError: an example cannot be scored, or a prediction is missing, belongs to no example
            or stands there twice. Names the first such question.
    """
    check_scorable(examples)
    texts = _unique_texts(predictions)
    for example in examples:
        if example.question_id not in texts:
            raise DataError(f"question {example.question_id} has no prediction")
    strangers = texts.keys() - {example.question_id for example in examples}
    if strangers:
        raise DataError(f"the prediction for {min(strangers)} belongs to no question of the split")
    return [texts[example.question_id] for example in examples]


def check_scorable(examples: Sequence[Example]) -> None:
    """Check what can be checked before anything is predicted.

    Raises:
        DataError: there are no examples, or one of them has no reference.
    """
    if not examples:
        raise DataError("there is nothing to score: the list of examples is empty")
    for example in examples:
        if not example.references:
            raise DataError(
                f"question {example.question_id} has no reference to be scored against: "
                "choose a split with published answers"
            )


def scores_from(per_example: dict[str, Values], *, headline: str) -> Scores:
    """Scores whose corpus values are the means of (N,) scores per example."""
    values = {name: float(column.mean()) for name, column in per_example.items()}
    return Scores(values=values, per_example=per_example, headline=headline)


def _unique_texts(predictions: Sequence[Prediction]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for prediction in predictions:
        if prediction.question_id in texts:
            raise DataError(f"question {prediction.question_id} has more than one prediction")
        texts[prediction.question_id] = prediction.text
    return texts
