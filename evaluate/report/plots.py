"""Drawings that stand in a page as SVG, in the page's own ink, and beside it as PNG."""

import re
from collections.abc import Sequence
from html import escape
from io import BytesIO, StringIO
from typing import TYPE_CHECKING

from epalm.evaluate.report.training_curves import Curve, shortened
from epalm.evaluate.scores.calibration import Calibration
from epalm.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE_COLOURS = ("#3b82c4", "#d97706", "#2f9e62", "#9a6bd6", "#d1495b", "#7a869a")
"""One per run; each has a contrast of 3:1 or more with a white and with a near-black page."""

_DASHES: tuple[tuple[float, ...], ...] = ((), (3.7, 1.6), (6.4, 1.6, 1, 1.6), (1, 1.65))
"""One per run: lengths of ink and gap in widths of the line; none for an unbroken one."""

_MARKERS = {
    "o": '<circle cx="14" cy="5" r="4"/>',
    "s": '<rect x="10" y="1" width="8" height="8"/>',
    "^": '<path d="M14 0l5 9h-10z"/>',
    "D": '<path d="M14 0l5 5l-5 5l-5 -5z"/>',
}
"""One per run: matplotlib's name of a mark -> the same in a legend of the page."""

_INK = "#010203"
"""Stands for the page's text colour while matplotlib draws."""

_PNG_DOTS_PER_INCH = 150

_NAME_AT_MOST = 40
"""Characters of a name in a figure."""


def colour(number: int) -> str:
    """Of the run in this column."""
    return LINE_COLOURS[number % len(LINE_COLOURS)]


def line_swatch(number: int) -> str:
    """An `<svg>` element: the line of the run in this column, for a legend."""
    dashes = " ".join(f"{3 * length:g}" for length in _DASHES[number % len(_DASHES)])
    broken = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = f'<path d="M0 5h28" stroke="{colour(number)}" stroke-width="3"{broken}/>'
    return f'<svg viewBox="0 0 28 10" aria-hidden="true">{line}</svg>'


def mark_swatch(number: int) -> str:
    """Likewise the mark of the run on its line in the diagram of confidence."""
    ink = colour(number)
    line = f'<path d="M0 5h28" stroke="{ink}" stroke-width="1.5"/>'
    mark = list(_MARKERS.values())[number % len(_MARKERS)]
    return f'<svg viewBox="0 0 28 10" aria-hidden="true" fill="{ink}">{line}{mark}</svg>'


def curves_figure(
    curves: Sequence[Curve | None], names: Sequence[str], *, axis: str, percent: bool
) -> "Figure":
    """One line per run over the optimiser's steps.

    Args:
        curves: one per run, which decides the colour; None for a run without this quantity.
        names: of the runs.
        axis: label of the vertical axis.
        percent: multiply the values by 100.
    """
    from matplotlib.ticker import FixedLocator, MaxNLocator

    figure, axes = _plain_figure("step", axis)
    for number, curve in enumerate(curves):
        if curve is None:
            continue
        short = shortened(curve)
        dashes = _DASHES[number % len(_DASHES)]
        axes.plot(
            short.steps,
            short.values * (100 if percent else 1),
            color=colour(number),
            linestyle=(0, dashes) if dashes else "-",
            linewidth=1.8,
            marker="o" if len(short.steps) <= 40 else None,
            markersize=3.5 if len(short.steps) > 1 else 8,
            label=_plain(names[number]),
        )
    steps = {step for curve in curves if curve for step in curve.steps}
    alone = FixedLocator([*steps]) if len(steps) == 1 else None
    axes.xaxis.set_major_locator(alone or MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    return figure


def reliability_figure(
    calibrations: Sequence[Calibration | None], names: Sequence[str], *, axis: str
) -> "Figure":
    """Mean score over mean confidence of each bin; a faithful model lies on the diagonal.

    Args:
        calibrations: one per run, which decides the colour; None for a run without confidences.
        names: of the runs.
        axis: label of the vertical axis.
    """
    figure, axes = _plain_figure("mean confidence", axis)
    axes.plot([0, 1], [0, 1], color=_INK, alpha=0.35, linewidth=1, linestyle=(0, (4, 4)))
    for number, found in enumerate(calibrations):
        if found is None:
            continue
        largest = max(one.count for one in found.bins)
        across, up = [one.confidence for one in found.bins], [one.score for one in found.bins]
        marker = list(_MARKERS)[number % len(_MARKERS)]
        axes.plot(across, up, color=colour(number), linewidth=1.2, alpha=0.7)
        sizes = [14 + 90 * one.count / largest for one in found.bins]
        axes.scatter(
            across,
            up,
            s=sizes,
            color=colour(number),
            marker=marker,
            zorder=3,
            label=_plain(names[number]),
        )
    axes.set_xlim(-0.05, 1.05)
    axes.set_ylim(-0.06, 1.06)
    return figure


def inline_svg(figure: "Figure", title: str) -> str:
    """An `<svg>` element, readable on light and dark pages.

    Args:
        figure: made here.
        title: for people who cannot see it; also keeps the ids of several drawings apart.

    Returns:
        Markup without scripts, styles or addresses; its text has the colour of the page's.
    """
    import matplotlib as mpl

    out = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(out, format="svg", transparent=True)
    return _inline(out.getvalue(), title)


def png(figure: "Figure") -> bytes:
    """The same on white, for slides and papers, with the names of several runs."""
    (axes,) = figure.axes
    names = axes.get_legend_handles_labels()[1]
    if len(names) > 1:
        legend = figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
        for text in legend.get_texts():
            text.set_parse_math(False)  # names of runs are no formulas
    out = BytesIO()
    figure.savefig(out, format="png", dpi=_PNG_DOTS_PER_INCH, facecolor="white")
    return out.getvalue()


def _plain_figure(across: str, up: str) -> tuple["Figure", "Axes"]:
    """Two axis lines, faint horizontal rules."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across, color=_INK)
    axes.set_ylabel(_plain(up), color=_INK)
    axes.yaxis.label.set_parse_math(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(color=_INK, labelcolor=_INK)
    axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.8)
    return figure, axes


def _plain(name: str) -> str:
    """A name out of a file as matplotlib draws it: one line, no longer than a figure is wide.

    Names that begin with an underscore would be left out of a legend.
    """
    shown = visible(name)
    short = shown if len(shown) <= _NAME_AT_MOST else f"{shown[:_NAME_AT_MOST]} ..."
    return f" {short}" if short.startswith("_") else short


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
