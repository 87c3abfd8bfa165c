"""Training and validation curves of runs, drawn as SVG that goes straight into a page."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MalformedFileError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS_AT_MOST = 300
"""Longer curves are drawn as means over equal stretches; more points than pixels show nothing."""

LINE_COLOURS = ("#3b82c4", "#d97706", "#2f9e62", "#9a6bd6", "#d1495b", "#7a869a")
"""One per run; each has a contrast of 3:1 or more with a white and with a near-black page."""

_DASHES = ("-", "--", "-.", ":")

_INK = "#010203"
"""Stands for the page's text colour while matplotlib draws."""


@dataclass(frozen=True)
class Curve:
    """One line: (K,) positions and heights, K at least 1."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def read_curve(metrics_file: Path, *, kind: str, metric: str) -> Curve | None:
    """One quantity of a run's metrics.jsonl over the optimiser steps.

    Args:
        metrics_file: one JSON object a line, each with "kind" and "step".
        kind: "train" or "val".
        metric: the member to read, such as "loss".

    Returns:
        The curve, or None where the file is absent or never mentions the quantity.

    Raises:
        MalformedFileError: a line that is no JSON object with numbers.
    """
    if not metrics_file.is_file():
        return None
    points = []
    lines = metrics_file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            if record["kind"] == kind and metric in record:
                points.append((float(record["step"]), float(record[metric])))
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedFileError(
                f"{metrics_file}, line {number}: found {line[:80]!r}, wanted a JSON object with "
                f'"kind", "step" and numbers ({error!r})'
            ) from error
    if not points:
        return None
    steps, values = np.array(points).T
    return Curve(steps, values)


def draw(curves: Sequence[Curve | None], *, title: str, axis: str, percent: bool) -> str:
    """An `<svg>` element with one line per run, readable on light and dark pages.

    Args:
        curves: one per run, which decides the colour; None for a run without this quantity.
        title: for people who cannot see it; also keeps the ids of several drawings apart.
        axis: label of the vertical axis.
        percent: multiply the values by 100.

    Returns:
        Markup without scripts, styles or addresses; its text has the colour of the page's.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, 3.0), layout="constrained")
        axes = figure.add_subplot()
        for number, curve in enumerate(curves):
            if curve is None:
                continue
            short = _shortened(curve)
            axes.plot(
                short.steps,
                short.values * (100 if percent else 1),
                color=LINE_COLOURS[number % len(LINE_COLOURS)],
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1.8,
                marker="o" if len(short.steps) <= 40 else None,
                markersize=3.5,
            )
        axes.set_xlabel("step", color=_INK)
        axes.set_ylabel(axis, color=_INK)
        _plain_frame(axes)
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True)
    return _inline(out.getvalue(), title)


def _plain_frame(axes: "Axes") -> None:
    """Two axis lines, faint horizontal rules, whole steps."""
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(color=_INK, labelcolor=_INK)
    axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))


def _shortened(curve: Curve) -> Curve:
    """The curve itself, or its means over `POINTS_AT_MOST` equal stretches."""
    if len(curve.steps) <= POINTS_AT_MOST:
        return curve
    steps = [part.mean() for part in np.array_split(curve.steps, POINTS_AT_MOST)]
    values = [part.mean() for part in np.array_split(curve.values, POINTS_AT_MOST)]
    return Curve(np.array(steps), np.array(values))


def _inline(drawing: str, title: str) -> str:
    """Turn matplotlib's SVG file into an element of a page."""
    body = drawing[drawing.index("<svg") :]
    for clutter in (
        r"<metadata>.*?</metadata>",
        r"<style[^>]*>.*?</style>",
        r"<!--.*?-->",
        r' xmlns(:\w+)?="[^"]*"',
    ):
        body = re.sub(clutter, "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href").replace(_INK, "currentColor")
    used = set(re.findall(r"#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda it: it[0] if it[1] in used else "", body)
    body = re.sub(r' (width|height)="[\d.]+pt"', "", body, count=2)
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(title, quote=True)}"', 1)
