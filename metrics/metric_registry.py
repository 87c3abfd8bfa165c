"""Registry of metrics, the type of a metric, and matching of predictions with examples."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from epalm.errors import DataError
from epalm.plugins import load_plugin
from epalm.tasks.types import Example, Prediction

Values = NDArray[np.float64]

Interval = tuple[float, float]
"""Lower and upper end of a confidence interval."""

METRICS: dict[str, str] = {
    "vqa": "epalm.metrics.vqa_scores:score_vqa",
    "exact": "epalm.metrics.exact_scores:score_exact",
    "label": "epalm.metrics.exact_scores:score_label",
    "gqa": "epalm.metrics.exact_scores:score_label",
    "caption": "epalm.metrics.captions.caption_metrics:score_captions",
}
"""Metric name -> "module:function"."""

FINAL: dict[str, str] = {"caption": "epalm.metrics.captions.caption_suite:score_caption_suite"}
"""Metric name -> "module:function" of its slower version, used by evaluations but not by the
validation during training."""


@dataclass(frozen=True)
class Scores:
    """Scores of a set of predictions.

    Attributes:
        values: name -> score of the whole set, from 0 to 1; CIDEr from 0 to 10.
        per_example: name -> (N,) scores in the order of the examples. Their mean is the entry of
            `values`, unless `intervals` has one.
        headline: key of `values` that selects checkpoints and comes first in every table.
        intervals: name -> 95 % bootstrap interval, for scores that are not means over examples.
        left_out: name of a score that could not be computed -> reason.
    """

    values: dict[str, float]
    per_example: dict[str, Values]
    headline: str
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


_MAX_NAMED = 5
"""Largest number of questions that an error message names."""

Metric = Callable[[Sequence[Prediction], Sequence[Example]], Scores]


def load_metric(name: str) -> Metric:
    """The metric of this name, after a check that it can run.

    A metric's module may define `require_tools()`, which checks for external programs. It is called
    here, so that a missing program is reported before any answer is generated.

    Args:
        name: key of `METRICS`, or a `TypedName` `package.module:function`.

    Raises:
        UsageError: there is no such metric; the message lists the known ones.
        MissingToolError: the metric needs a program that is not installed.
    """
    return _load(name, METRICS)


def load_final_metric(name: str) -> Metric:
    """The metric of this name for evaluations: the version in `FINAL` if there is one."""
    return _load(name, METRICS | FINAL)


def _load(name: str, known: Mapping[str, str]) -> Metric:
    metric: Metric = load_plugin(name, known, what="metric", option="--metrics")
    module = sys.modules[metric.__module__]
    getattr(module, "require_tools", lambda: None)()
    return metric


def texts_in_order(predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[str]:
    """The predicted text of each example, in the order of the examples.

    Args:
        predictions: one for each example, in any order; matched by `question_id`.
        examples: at least one, each with references.

    Raises:
        DataError: an example cannot be scored, or a prediction is missing, belongs to no example
            or occurs twice. The message names the first such question.
    """
    check_scorable(examples)
    texts = _unique_texts(predictions)
    ids = [example.question_id for example in examples]
    missing = [question_id for question_id in ids if question_id not in texts]
    _refuse_questions(missing, "has no prediction", total=len(ids))
    unknown = sorted(texts.keys() - set(ids))
    _refuse_questions(unknown, "has a prediction but is not in the split", total=len(texts))
    return [texts[question_id] for question_id in ids]


def check_scorable(examples: Sequence[Example]) -> None:
    """Check that predictions for the examples can be scored.

    Raises:
        DataError: there are no examples, or one of them has no reference.
    """
    if not examples:
        raise DataError("there is nothing to score: the list of examples is empty")
    for example in examples:
        if not example.references:
            raise DataError(
                f"question {example.question_id} has no reference answer: "
                "choose a split with published answers"
            )


def scores_from(per_example: dict[str, Values], *, headline: str) -> Scores:
    """Scores whose values are the means of (N,) scores per example."""
    values = {name: float(column.mean()) for name, column in per_example.items()}
    return Scores(values=values, per_example=per_example, headline=headline)


def _unique_texts(predictions: Sequence[Prediction]) -> dict[str, str]:
    counts = Counter(prediction.question_id for prediction in predictions)
    repeated = [question_id for question_id, count in counts.items() if count > 1]
    _refuse_questions(repeated, "has more than one prediction", total=len(counts))
    return {prediction.question_id: prediction.text for prediction in predictions}


def _refuse_questions(question_ids: Sequence[str], problem: str, *, total: int) -> None:
    """Raise an error that names and counts the questions; do nothing if there are none."""
    if not question_ids:
        return
    message = f"question {question_ids[0]} {problem}"
    if len(question_ids) > 1:
        names = ", ".join(question_ids[:_MAX_NAMED])
        names += ", ..." if len(question_ids) > _MAX_NAMED else ""
        message += f"; in all {len(question_ids)} of {total} questions: {names}"
    raise DataError(message)
