"""A run's metrics.jsonl: its lines, and one quantity of them over the steps."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MalformedFileError

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
    records = []
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            kind = record.pop("kind")
            numbers = {name: float(value) for name, value in record.items()}
            records.append({"kind": kind, "step": numbers["step"]} | numbers)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise MalformedFileError(
                f"{metrics_file}, line {number}: found {line[:80]!r}, wanted a JSON object with "
                f'"kind", "step" and numbers ({error!r})'
            ) from error
    return records


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
