"""Charts of a report: inline SVG in the text color of the page, and PNG files."""

import re
from collections.abc import Sequence
from html import escape
from io import BytesIO, StringIO
from typing import TYPE_CHECKING

from epalm.evaluate.report.charts.training_curves import Curve, shortened
from epalm.evaluate.scores.calibration import Calibration
from epalm.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_COLORS = ("#3b82c4", "#d97706", "#2f9e62", "#9a6bd6", "#d1495b", "#7a869a")
"""Color of each run, with a contrast of at least 3:1 to a white and to a near-black page."""

_DASHES: tuple[tuple[float, ...], ...] = ((), (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.65))
"""Dash pattern of each run: lengths of dashes and gaps in line widths; empty for a solid line."""

_MARKERS = {
    "o": '<circle cx="14" cy="5" r="4"/>',
    "s": '<rect x="10" y="1" width="8" height="8"/>',
    "^": '<path d="M14 0l5 9h-10z"/>',
    "D": '<path d="M14 0l5 5l-5 5l-5 -5z"/>',
}
"""Marker of each run: its name in matplotlib -> the same shape as SVG, for the legend."""

_INK = "#010203"
"""Placeholder for the text color of the page while matplotlib draws."""

_PNG_DOTS_PER_INCH = 150

_FIGURE_INCHES = (4.6, 2.8)
"""Width and height of a chart; in a phone's window its text is then about as large as the page's
small print."""

_TICK_STEPS = (1, 2, 2.5, 5, 10)
"""Distances between ticks, times a power of ten."""

_MAX_NAME_LENGTH = 40
"""Maximum number of characters of a name in a chart."""


def color(number: int) -> str:
    """The color of the run in this column."""
    return LINE_COLORS[number % len(LINE_COLORS)]


def line_swatch(number: int) -> str:
    """An `<svg>` element with the line of the run in this column, for a legend."""
    dashes = " ".join(f"{3 * length:g}" for length in _DASHES[number % len(_DASHES)])
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = f'<path d="M0 5h28" stroke="{color(number)}" stroke-width="3"{dashed}/>'
    return f'<svg viewBox="0 0 28 10" aria-hidden="true">{line}</svg>'


def mark_swatch(number: int) -> str:
    """An `<svg>` element with the marker of the run in this column, for the calibration chart."""
    ink = color(number)
    line = f'<path d="M0 5h28" stroke="{ink}" stroke-width="1.5"/>'
    mark = list(_MARKERS.values())[number % len(_MARKERS)]
    return f'<svg viewBox="0 0 28 10" aria-hidden="true" fill="{ink}">{line}{mark}</svg>'


def curves_figure(
    curves: Sequence[Curve | None], names: Sequence[str], *, axis: str, percent: bool
) -> "Figure":
    """A curve per run over the optimizer steps.

    Every point is drawn. Curves of more than `MAX_POINTS` are pale, below the line of their means.

    Args:
        curves: curve of each run; None for a run without this metric.
        names: names of the runs.
        axis: label of the vertical axis.
        percent: multiply the values by 100.
    """
    figure, axes = _plain_figure("step", axis)
    for number, curve in enumerate(curves):
        if curve is None:
            continue
        short = shortened(curve)
        scale = 100 if percent else 1
        if short is not curve:
            axes.plot(
                curve.steps, curve.values * scale, color=color(number), linewidth=0.6, alpha=0.35
            )
        dashes = _DASHES[number % len(_DASHES)]
        axes.plot(
            short.steps,
            short.values * scale,
            color=color(number),
            linestyle=(0, dashes) if dashes else "-",
            linewidth=1.8,
            marker="o" if len(short.steps) <= 40 else None,
            markersize=3.5 if len(short.steps) > 1 else 8,
            label=_plain(names[number]),
        )
    _set_ticks(axes, {step for curve in curves if curve for step in curve.steps})
    return figure


def _set_ticks(axes: "Axes", steps: set[float]) -> None:
    """Round numbers of steps from 0 on, or the only step; round values."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=_TICK_STEPS))
    if len(steps) == 1:
        axes.xaxis.set_major_locator(FixedLocator([*steps]))
        axes.set_ylim(bottom=0)
        return
    axes.set_xlim(left=0)
    round_steps = [step for step in _TICK_STEPS if step != 2.5]  # which are no integers
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=6, steps=round_steps, integer=True, min_n_ticks=1)
    )


def reliability_figure(
    calibrations: Sequence[Calibration | None], names: Sequence[str], *, axis: str
) -> "Figure":
    """Mean score over mean confidence of each bin; a calibrated model is on the diagonal.

    Args:
        calibrations: calibration of each run; None for a run without confidences.
        names: names of the runs.
        axis: label of the vertical axis.
    """
    figure, axes = _plain_figure("mean confidence", axis)
    axes.plot([0, 1], [0, 1], color=_INK, alpha=0.35, linewidth=1, linestyle=(0, (4, 4)))
    for number, calibration in enumerate(calibrations):
        if calibration is None:
            continue
        bins = calibration.bins
        largest = max(group.count for group in bins)
        confidences, scores = [group.confidence for group in bins], [group.score for group in bins]
        marker = list(_MARKERS)[number % len(_MARKERS)]
        axes.plot(confidences, scores, color=color(number), linewidth=1.2, alpha=0.7)
        sizes = [14 + 90 * group.count / largest for group in bins]
        axes.scatter(
            confidences,
            scores,
            s=sizes,
            color=color(number),
            marker=marker,
            zorder=3,
            label=_plain(names[number]),
        )
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.06, 1.06)
    return figure


def inline_svg(figure: "Figure", title: str) -> str:
    """An `<svg>` element that is readable on light and dark pages.

    Args:
        figure: figure made by this module.
        title: text alternative, which also makes the ids of several charts distinct.

    Returns:
        Markup without scripts, styles or URLs, in the text color of the page.
    """
    import matplotlib as mpl

    out = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(out, format="svg", transparent=True)
    return _inline(out.getvalue(), title)


def png(figure: "Figure") -> bytes:
    """The chart as PNG on white, for slides and papers, with a legend if there are several runs."""
    (axes,) = figure.axes
    names = axes.get_legend_handles_labels()[1]
    if len(names) > 1:
        legend = figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)  # names of runs are no formulas
    out = BytesIO()
    figure.savefig(out, format="png", dpi=_PNG_DOTS_PER_INCH, facecolor="white")
    return out.getvalue()


def _plain_figure(x_label: str, y_label: str) -> tuple["Figure", "Axes"]:
    """A figure with two axis lines and faint horizontal rules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=_FIGURE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(_plain(y_label), color=_INK)
    axes.yaxis.label.set_parse_math(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(color=_INK, labelcolor=_INK)
    axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.8)
    return figure, axes


def _plain(name: str) -> str:
    """A name from a file for matplotlib: one line, no longer than the figure is wide.

    A leading space keeps names that begin with an underscore, which a legend omits.
    """
    shown = visible(name)
    short = shown if len(shown) <= _MAX_NAME_LENGTH else f"{shown[:_MAX_NAME_LENGTH]} ..."
    return f" {short}" if short.startswith("_") else short


def _inline(drawing: str, title: str) -> str:
    """Turn an SVG file of matplotlib into an element of a page."""
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
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", body)
    body = re.sub(r' (width|height)="[\d.]+pt"', "", body, count=2)
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(title, quote=True)}"', 1)
