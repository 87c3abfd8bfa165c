"""The metrics by name, what a metric is, and how predictions meet their examples."""

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
"""Lower and upper end."""

METRICS: dict[str, str] = {
    "vqa": "epalm.metrics.vqa_accuracy:score_vqa",
    "exact": "epalm.metrics.exact_match:score_exact",
    "label": "epalm.metrics.exact_match:score_label",
    "gqa": "epalm.metrics.exact_match:score_label",
    "caption": "epalm.metrics.captions.caption_metrics:score_captions",
}
"""Metric name -> "module:function"."""

FINAL: dict[str, str] = {"caption": "epalm.metrics.captions.caption_suite:score_caption_suite"}
"""Metrics that take more time in an evaluation than training has for every epoch."""


@dataclass(frozen=True)
class Scores:
    """What a metric says about a set of predictions.

    Attributes:
        values: corpus scores as fractions of one; CIDEr as the toolkit gives it (at most 10).
        per_example: (N,) scores in the order of the examples. Where `intervals` has no entry, the
            value is their mean.
        headline: the key of `values` that selects checkpoints and leads every table.
        intervals: 95 % bootstrap intervals of values that are no mean over examples.
        left_out: scores that could not be computed -> why.
    """

    values: dict[str, float]
    per_example: dict[str, Values]
    headline: str
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


_NAMED = 5
"""How many questions an error names at most."""

Metric = Callable[[Sequence[Prediction], Sequence[Example]], Scores]


def load_metric(name: str) -> Metric:
    """The metric of this name, ready to be used.

    A metric's module may define `require_tools()`, which checks for outside programs; it is called
    here, so that what is missing is said before anything is generated.

    Args:
        name: a key of `METRICS`, or a `TypedName` `package.module:function`.

    Raises:
        UsageError: no such metric; lists the known ones.
        MissingToolError: the metric needs a program that is not installed.
    """
    return _load(name, METRICS)


def load_final_metric(name: str) -> Metric:
    """As `load_metric`, with every score that the metric's authors report: for evaluations."""
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
        examples: see `check_scorable`.

    Raises:
        DataError: an example cannot be scored, or a prediction is missing, belongs to no example
            or stands there twice. Names the first such question.
    """
    check_scorable(examples)
    texts = _unique_texts(predictions)
    wanted = [example.question_id for example in examples]
    _refuse([one for one in wanted if one not in texts], "has no prediction", of=len(wanted))
    strangers = sorted(texts.keys() - set(wanted))
    _refuse(strangers, "has a prediction but is no question of the split", of=len(texts))
    return [texts[one] for one in wanted]


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
    texts = {one.question_id: one.text for one in predictions}
    if len(texts) < len(predictions):
        times = Counter(one.question_id for one in predictions)
        twice = [one for one, count in times.items() if count > 1]
        _refuse(twice, "has more than one prediction", of=len(texts))
    return texts


def _refuse(question_ids: Sequence[str], what: str, *, of: int) -> None:
    """Raise if there are any; name the first ones and say how many."""
    if not question_ids:
        return
    first = f"question {question_ids[0]} {what}"
    if len(question_ids) == 1:
        raise DataError(first)
    named = ", ".join(question_ids[1:_NAMED])
    more = f", {named}" + (", ..." if len(question_ids) > _NAMED else "")
    raise DataError(f"{first}, and so {len(question_ids)} of {of}: {question_ids[0]}{more}")
