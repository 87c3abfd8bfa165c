"""Training curves: reading and drawing."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from epalm.errors import MalformedFileError
from epalm.evaluate.curves import LINE_COLOURS, POINTS_AT_MOST, Curve, draw, read_curve

LOG = """{"kind": "train", "step": 10, "epoch": 1, "loss": 2.5, "lr": 0.1}
{"kind": "val", "step": 10, "epoch": 1, "accuracy": 0.25}
{"kind": "train", "step": 20, "epoch": 2, "loss": 1.5, "lr": 0.1}
"""


def line(points: int) -> Curve:
    return Curve(np.arange(points, dtype=np.float64), np.linspace(1, 0, points))


def test_a_quantity_is_read_over_the_steps(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LOG)
    loss = read_curve(file, kind="train", metric="loss")
    accuracy = read_curve(file, kind="val", metric="accuracy")
    assert loss is not None
    assert accuracy is not None
    assert (loss.steps.tolist(), loss.values.tolist()) == ([10, 20], [2.5, 1.5])
    assert (accuracy.steps.tolist(), accuracy.values.tolist()) == ([10], [0.25])


def test_what_was_never_logged_is_no_curve(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_curve(file, kind="train", metric="loss") is None
    file.write_text(LOG)
    assert read_curve(file, kind="val", metric="loss") is None


@pytest.mark.parametrize("bad", ["{", "[1]", '{"kind": "train", "loss": 1}', '{"step": 1}'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LOG + bad + "\n")
    with pytest.raises(MalformedFileError, match="line 4"):
        read_curve(file, kind="train", metric="loss")


def test_a_drawing_is_one_element_with_the_pages_ink_and_a_name() -> None:
    svg = draw([line(5)], title='loss of "a" & <b>', axis="loss", percent=False)
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("aria-label") == 'loss of "a" & <b>'
    assert "currentColor" in svg
    assert not re.search(r"https?:|<script|<style|#010203|width=\"[\d.]+pt", svg)


def test_every_run_keeps_its_colour_where_another_has_no_curve() -> None:
    both = draw([line(5), line(5)], title="t", axis="a", percent=False)
    second = draw([None, line(5)], title="t", axis="a", percent=False)
    assert LINE_COLOURS[0] in both
    assert LINE_COLOURS[0] not in second
    assert LINE_COLOURS[1] in second


def test_long_curves_are_drawn_as_means() -> None:
    drawn = draw([line(10_000)], title="t", axis="a", percent=False)
    assert len(drawn) < 3 * len(draw([line(POINTS_AT_MOST)], title="t", axis="a", percent=False))


def test_two_drawings_on_a_page_share_no_id() -> None:
    ids = [
        set(re.findall(r'\bid="([^"]+)"', draw([line(5)], title=title, axis="a", percent=False)))
        for title in ("loss", "accuracy")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]
