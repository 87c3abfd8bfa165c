"""A run's metrics.jsonl: its lines, and one quantity of them over the steps."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MalformedFileError
from epalm.untrusted.checked_json import parse_json

POINTS_AT_MOST = 300
"""Longer curves are drawn as means over equal stretches; more points than pixels show nothing."""


@dataclass(frozen=True)
class Curve:
    """One line: (K,) positions and heights, K at least 1."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def read_records(metrics_file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; none where there is no such file.

    Each has a text "kind", and numbers otherwise, "step" among them.

    Raises:
        MalformedFileError: a line is something else.
    """
    if not metrics_file.is_file():
        return []
    content = metrics_file.read_bytes()
    ends = content.rfind(b"\n") + 1  # what follows is a line that is just being written
    records = []
    for number, line in enumerate(content[:ends].split(b"\n")[:-1], start=1):
        place = f"{metrics_file}: line {number}"
        try:
            records.append(_record(parse_json(line, place)))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            shown = line[:80].decode("utf-8", "replace")
            raise MalformedFileError(
                f"{place}: found {shown!r}, wanted a JSON object with "
                f'"kind", "step" and numbers ({error})'
            ) from error
    return records


def _record(value: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the file holds
    kind = value["kind"]
    numbers = {name: float(one) for name, one in value.items() if name != "kind"}
    if not isinstance(kind, str) or not math.isfinite(numbers["step"]):
        raise ValueError("kind or step is something else")
    return {"kind": kind, **numbers}


def read_curve(metrics_file: Path, *, kind: str, metric: str) -> Curve | None:
    """One quantity of a run's metrics.jsonl over the optimiser steps.

    Args:
        metrics_file: see `read_records`.
        kind: "train" or "val".
        metric: the member to read, such as "loss".

    Returns:
        The curve, or None where the file is absent or never mentions the quantity.

    Raises:
        MalformedFileError: a line that is no record.
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


def shortened(curve: Curve) -> Curve:
    """The curve itself, or its means over `POINTS_AT_MOST` equal stretches."""
    if len(curve.steps) <= POINTS_AT_MOST:
        return curve
    steps = [part.mean() for part in np.array_split(curve.steps, POINTS_AT_MOST)]
    values = [part.mean() for part in np.array_split(curve.values, POINTS_AT_MOST)]
    return Curve(np.array(steps), np.array(values))
