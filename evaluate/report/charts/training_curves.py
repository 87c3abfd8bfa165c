"""The metrics.jsonl of a run: its records, and curves of one metric over the steps."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MalformedFileError
from epalm.model.checkpoints.validation_figures import selecting_quality
from epalm.untrusted.checked_json import parse_json
from epalm.untrusted.quoted_values import shown

MAX_POINTS = 300
"""Maximum number of points of a curve; longer ones are drawn as means over equal intervals."""


@dataclass(frozen=True)
class Curve:
    """A curve of K points, at least one: (K,) steps and (K,) values."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def read_records(metrics_file: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; empty if the file does not exist.

    A record has a string "kind" and numbers, "step" among them.

    Raises:
        MalformedFileError: a line is not such a record.
    """
    if not metrics_file.is_file():
        return []
    content = metrics_file.read_bytes()
    ends = content.rfind(b"\n") + 1  # the rest is a line that is being written
    records = []
    for number, line in enumerate(content[:ends].split(b"\n")[:-1], start=1):
        place = f"{metrics_file}: line {number}"
        try:
            records.append(_record(parse_json(line, place)))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            quoted = shown(line.decode("utf-8", "replace"))
            raise MalformedFileError(
                f"{place} is {quoted}, expected a JSON object with "
                f'"kind", "step" and numbers ({error})'
            ) from error
    return records


def _record(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the file holds
    kind = value["kind"]
    numbers = {name: float(number) for name, number in value.items() if name != "kind"}
    if not isinstance(kind, str) or not math.isfinite(numbers["step"]):
        raise ValueError("kind is not a string, or step is not finite")
    return {"kind": kind, **numbers}


def read_curve(metrics_file: Path, *, kind: str, metric: str) -> Curve | None:
    """One metric of a run's metrics.jsonl over the optimizer steps.

    Args:
        metrics_file: metrics.jsonl of the run.
        kind: "train" or "val".
        metric: name of the metric, e.g. "loss".

    Returns:
        The curve, or None if the file or the metric does not exist.

    Raises:
        MalformedFileError: a line is not a record.
    """
    points = [
        (record["step"], record[metric])
        for record in read_records(metrics_file)
        if record["kind"] == kind and metric in record
    ]
    if not points:
        return None
    steps, values = np.array(points).T
    return Curve(steps, values)


def best_validation(metrics_file: Path) -> dict[str, float] | None:
    """Epoch, scores, loss and image gain of the weights that a run kept; None without validations.

    Raises:
        MalformedFileError: a line is not a record.
    """
    validations = [line for line in read_records(metrics_file) if line["kind"] == "val"]
    best = max(validations, key=selecting_quality, default=None)
    return best and {name: value for name, value in best.items() if name != "kind"}


def shortened(curve: Curve) -> Curve:
    """The curve itself, or its means over `MAX_POINTS` equal intervals."""
    if len(curve.steps) <= MAX_POINTS:
        return curve
    steps = [part.mean() for part in np.array_split(curve.steps, MAX_POINTS)]
    values = [part.mean() for part in np.array_split(curve.values, MAX_POINTS)]
    return Curve(np.array(steps), np.array(values))
