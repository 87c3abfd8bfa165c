"""Parallel coordinates: one line per member through its settings to its figure."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from epalm.atomic_write import write_binary, write_file
from epalm.terminal import visible
from epalm.train.sweep.sweep_result import MemberResult, SweepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHART = "sweep"
"""Name of the files, with the endings .png and .svg."""

_INCHES_PER_AXIS, _HEIGHT, _DOTS_PER_INCH = 1.6, 3.6, 150

_MAX_LABEL = 28
"""Largest number of characters of a label."""

_LARGE_RATIO = 20
"""Numbers whose largest is more than this many times the smallest are drawn by their logarithm."""


def save_chart(folder: Path, result: SweepResult) -> None:
    """Write sweep.png and sweep.svg; none if no member has a figure.

    Raises:
        OSError: they cannot be written.
    """
    if not any(result.by in one.figures for one in result.members):
        return
    import matplotlib as mpl  # takes a third of a second

    figure = parallel_coordinates(result)
    for ending in ("svg", "png"):
        out = BytesIO()
        metadata = {"Date": None} if ending == "svg" else None
        with mpl.rc_context({"svg.hashsalt": CHART}):
            figure.savefig(
                out, format=ending, dpi=_DOTS_PER_INCH, facecolor="white", metadata=metadata
            )
        if ending == "svg":
            write_file(folder / f"{CHART}.svg", out.getvalue().decode())
        else:
            write_binary(folder / f"{CHART}.png", out.getvalue())


def parallel_coordinates(result: SweepResult) -> "Figure":
    """An axis for each setting that varies and one for the figure that members are compared by.

    Lines of finished members have the color of their figure; the others are gray and dashed.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    members = [one for one in result.members if result.by in one.figures]
    axes_values = [
        (key, [one.settings.get(key, "") for one in members]) for key in _varying(members)
    ]
    axes_values.append((result.by, [one.figures[result.by] for one in members]))
    figure = Figure(
        figsize=(_INCHES_PER_AXIS * max(len(axes_values), 2) + 1, _HEIGHT), layout="constrained"
    )
    axes = figure.add_subplot()
    heights = []
    for number, (label, values) in enumerate(axes_values):
        positions, ticks = _scale(values)
        _draw_axis(axes, number, label, ticks)
        heights.append(positions)
    colors = colormaps["viridis"]
    for number, one in enumerate(members):
        finished = one.status == "finished"
        axes.plot(
            range(len(axes_values)),
            [positions[number] for positions in heights],
            color=colors(0.9 * heights[-1][number]) if finished else "0.7",
            linestyle="-" if finished else "--",
            linewidth=2.6 if one.name == result.best else 1.4,
            zorder=3 if finished else 2,
        )
    axes.set_xlim(-0.15, len(axes_values) - 0.4)
    axes.set_ylim(-0.08, 1.08)
    axes.set_axis_off()
    return figure


def _varying(members: Sequence[MemberResult]) -> list[str]:
    """Settings with at least two values, in the order of the sweep file."""
    keys = dict.fromkeys(key for one in members for key in one.settings)
    return [key for key in keys if len({repr(one.settings.get(key)) for one in members}) > 1]


def _scale(values: Sequence[object]) -> tuple[list[float], list[tuple[float, str]]]:
    """Height from 0 to 1 of each value, and the heights that are labeled."""
    import numpy as np

    numbers = [float(value) for value in values if type(value) in (int, float)]  # type: ignore[arg-type]
    if len(numbers) < len(values):
        names = list(dict.fromkeys(map(str, values)))
        spread = max(len(names) - 1, 1)
        return (
            [names.index(str(value)) / spread for value in values],
            [(place / spread, name) for place, name in enumerate(names)],
        )
    logarithmic = min(numbers) > 0 and max(numbers) > _LARGE_RATIO * min(numbers)
    scaled = np.log(numbers) if logarithmic else np.array(numbers)
    span = float(np.ptp(scaled)) or 1.0
    places = [float(place) for place in (scaled - scaled.min()) / span]
    distinct = dict(sorted(zip(places, numbers, strict=True)))
    labeled = distinct if len(distinct) <= 8 else {0.0: min(numbers), 1.0: max(numbers)}
    return places, [(place, f"{number:.4g}") for place, number in labeled.items()]


def _draw_axis(axes: "Axes", number: int, label: str, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([number, number], [0, 1], color="0.3", linewidth=1, zorder=1)
    texts = [axes.text(number, 1.06, _plain(label), ha="center", va="bottom", weight="bold")]
    for place, name in ticks:
        background = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
        texts.append(
            axes.text(
                number + 0.03, place, _plain(name), va="center", size=8, bbox=background, zorder=4
            )
        )
    for text in texts:
        text.set_parse_math(False)  # values of a file are no formulas


def _plain(text: str) -> str:
    shown = visible(text)
    return shown if len(shown) <= _MAX_LABEL else f"{shown[:_MAX_LABEL]}..."
