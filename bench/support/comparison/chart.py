"""Validation loss over CPU time, one curve per training, and the ratios of the times to a loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.support.comparison.curves import Curve, seconds_to

COLORS = ("#b2554c", "#3d6fa5", "#7fa7d1", "#8a7a3a", "#1c7c54")
"""A color of each way, epalm last."""


def draw(
    file: Path,
    curves: Mapping[str, Sequence[Curve]],
    loss: float,
    *,
    reference: str,
    before: Sequence[float],
) -> None:
    """Write the chart to a file, whose ending is its format.

    Args:
        file: path that ends in .svg or .png.
        curves: curves of each way, one per round.
        loss: loss that the times are compared at.
        reference: way that the others are compared with.
        before: CPU seconds that the reference needs once before its first training, per round.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_curves(left, curves, loss)
    for number, (seconds, curve) in enumerate(zip(before, curves[reference], strict=True)):
        label = None if number else f"{reference}, with extraction"
        later = [(step, spent + seconds, value) for step, spent, value in curve]
        left.plot(*_points(later), color=COLORS[-1], linestyle=(0, (3, 3)), label=label)
    left.legend(fontsize=8, frameon=False)
    _draw_ratios(right, curves, loss, reference)
    with mpl.rc_context({"svg.hashsalt": "comparison"}):
        metadata = {"Date": None} if file.suffix == ".svg" else None
        figure.savefig(file, dpi=150, facecolor="white", metadata=metadata)


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[Curve]], loss: float) -> None:
    for color, (name, rounds) in zip(COLORS, curves.items(), strict=True):
        for number, curve in enumerate(rounds):
            label = None if number else name
            axes.plot(*_points(curve), color=color, linewidth=1.5, label=label)
    axes.axhline(loss, color="#444444", linewidth=0.8, linestyle=(0, (4, 4)))
    axes.set(xscale="log", xlabel="CPU seconds of training", ylabel="validation loss (nats/token)")
    axes.set_ylim(loss - 0.15, loss + 1.0)


def _points(curve: Curve) -> tuple[list[float], list[float]]:
    """Seconds and losses, without those of untrained models."""
    shown = [(seconds, value) for step, seconds, value in curve if step]
    return [seconds for seconds, _ in shown], [value for _, value in shown]


def _draw_ratios(
    axes: Axes, curves: Mapping[str, Sequence[Curve]], loss: float, reference: str
) -> None:
    times = {name: [seconds_to(curve, loss) for curve in rounds] for name, rounds in curves.items()}
    others = [name for name in times if name != reference]
    for place, name in enumerate(others):
        pairs = zip(times[name], times[reference], strict=True)
        ratios = np.array([theirs / ours for theirs, ours in pairs])
        if not np.isfinite(ratios).all():
            axes.text(1.1, place, "not reached", va="center", fontsize=8)
            continue
        middle = float(np.median(ratios))
        bar = [[middle - ratios.min()], [ratios.max() - middle]]
        axes.barh(place, middle, color=COLORS[place], height=0.6)
        axes.errorbar(middle, place, xerr=bar, color="#222222", capsize=3)
        axes.text(float(ratios.max()) * 1.05, place, f"{middle:.1f}", va="center", fontsize=8)
    axes.axvline(1, color=COLORS[-1], linewidth=1.5)
    axes.set_yticks(range(len(others)), others, fontsize=8)
    axes.set_ylim(len(others) - 0.5, -0.5)
    axes.set_xlabel(f"CPU time to {loss:g} / that of {reference}", fontsize=9)
    axes.set_xlim(left=0, right=1.15 * axes.get_xlim()[1])
