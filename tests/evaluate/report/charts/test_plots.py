"""Charts: text color of the page, one color per run, and PNG files."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from epalm.evaluate.report.charts.plots import (
    LINE_COLORS,
    curves_figure,
    inline_svg,
    line_swatch,
    mark_swatch,
    png,
    reliability_figure,
)
from epalm.evaluate.report.charts.training_curves import MAX_POINTS, Curve
from epalm.evaluate.scores.calibration import Bin, Calibration

NAMES = ("first", "second")


def line(points: int) -> Curve:
    return Curve(np.arange(points, dtype=np.float64), np.linspace(1, 0, points))


def draw(curves: list[Curve | None], *, title: str = "t") -> str:
    return inline_svg(curves_figure(curves, NAMES, axis="loss", percent=False), title)


def test_a_chart_is_one_element_in_the_text_color_with_a_text_alternative() -> None:
    svg = draw([line(5)], title='loss of "a" & <b>')
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("aria-label") == 'loss of "a" & <b>'
    assert "currentColor" in svg
    assert not re.search(r"https?:|<script|<style|#010203|width=\"[\d.]+pt", svg)


def test_every_run_keeps_its_color_if_another_has_no_curve() -> None:
    both = draw([line(5), line(5)])
    second = draw([None, line(5)])
    assert LINE_COLORS[0] in both
    assert LINE_COLORS[0] not in second
    assert LINE_COLORS[1] in second


def test_the_legend_of_the_page_draws_each_line_as_the_plot_does() -> None:
    lines = [line(5), None, line(5), line(5), line(5)]
    figure = curves_figure(lines, [*"abcde"], axis="loss", percent=False)
    drawn = re.findall(r"stroke-dasharray: ([\d., ]+)", inline_svg(figure, "t"))
    for number, dashes in zip((2, 3), drawn, strict=True):
        legend = re.search(r'stroke-dasharray="([\d. ]+)"', line_swatch(number))
        assert legend
        lengths = [float(length) / 3 for length in legend[1].split()]
        assert [float(length) / 1.8 for length in dashes.split(",")] == pytest.approx(lengths)
    assert "dasharray" not in line_swatch(0)
    assert "dasharray" in line_swatch(1)
    marks = {re.sub(r'fill="[^"]*"|stroke="[^"]*"', "", mark_swatch(number)) for number in range(4)}
    assert len(marks) == 4


def test_a_single_point_has_an_integer_step_and_a_visible_marker() -> None:
    point = Curve(np.array([300.0]), np.array([0.5]))
    (axes,) = curves_figure([point, point], NAMES, axis="loss", percent=False).axes
    assert list(axes.get_xticks()) == [300]
    assert axes.lines[0].get_markersize() > 2 * many_points_mark()


def many_points_mark() -> float:
    (axes,) = curves_figure([line(5)], NAMES, axis="loss", percent=False).axes
    return float(axes.lines[0].get_markersize())


def test_long_curves_show_every_point_and_their_means() -> None:
    values = np.ones(10_000)
    values[5_003] = 9.0  # one of the 33 points of a mean
    curve = Curve(np.arange(10_000, dtype=np.float64), values)
    (axes,) = curves_figure([curve], NAMES, axis="loss", percent=False).axes
    points, means = (line.get_ydata() for line in axes.lines)
    assert np.array_equal(points, values)
    assert len(means) == MAX_POINTS
    assert max(means) < 2
    assert len(draw([curve])) < 100_000


def test_short_curves_are_drawn_once_with_every_point() -> None:
    (axes,) = curves_figure([line(MAX_POINTS)], NAMES, axis="loss", percent=False).axes
    (only,) = axes.lines
    assert len(only.get_xdata()) == MAX_POINTS


@pytest.mark.parametrize(
    ("last", "ticks"),
    [(175, [0, 50, 100, 150]), (400, [0, 100, 200, 300, 400]), (7, [0, 2, 4, 6])],
)
def test_the_ticks_of_steps_are_round_and_begin_at_0(last: int, ticks: list[float]) -> None:
    steps = np.linspace(1, last, 10)
    figure = curves_figure([Curve(steps, steps)], NAMES, axis="loss", percent=False)
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == ticks


def test_two_charts_on_a_page_share_no_id() -> None:
    ids = [
        set(re.findall(r'\bid="([^"]+)"', draw([line(5)], title=title)))
        for title in ("loss", "accuracy")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_the_calibration_chart_has_a_marker_per_bin_of_each_run() -> None:
    bins = (Bin(3, 0.1, 0.2), Bin(9, 0.5, 0.4))
    calibration = Calibration(bins, 0.1)
    one = inline_svg(reliability_figure([None, calibration], NAMES, axis="accuracy"), "r")
    assert LINE_COLORS[0] not in one
    styles = [path.get("style") or "" for path in ElementTree.fromstring(one).iter("path")]
    assert sum(f"fill: {LINE_COLORS[1]}" in style for style in styles) == len(bins)


def test_png_charts_have_a_legend_of_several_runs_and_inline_charts_have_none() -> None:
    figure = curves_figure([line(5), line(5)], NAMES, axis="loss", percent=False)
    assert "second" not in inline_svg(figure, "t")
    png(figure)
    assert "second" in inline_svg(figure, "t")  # the legend was drawn for the file


def test_png_charts_are_dark_on_white() -> None:
    with Image.open(
        io.BytesIO(png(curves_figure([line(5)], NAMES, axis="loss", percent=True)))
    ) as file:
        assert file.width > 600
        corner = file.convert("RGB").getpixel((0, 0))
        darkest = file.convert("L").getextrema()[0]
    assert corner == (255, 255, 255)
    assert darkest < 10


@pytest.mark.parametrize("name", ["$\\frac{$", "_hidden", "n" * 250, "\x1b[2J\x00\ud83d", "<b>&"])
def test_any_name_of_a_run_can_be_shown_in_a_chart(name: str) -> None:
    figure = curves_figure([line(5), line(5)], [name, "second"], axis=name, percent=False)
    ElementTree.fromstring(inline_svg(figure, "loss"))
    assert Image.open(io.BytesIO(png(figure))).width < 1000
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 2
