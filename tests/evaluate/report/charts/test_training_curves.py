"""Reading training curves."""

from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.evaluate.report.charts.training_curves import read_curve

LOG = """{"kind": "train", "step": 10, "epoch": 1, "loss": 2.5, "lr": 0.1}
{"kind": "val", "step": 10, "epoch": 1, "accuracy": 0.25}
{"kind": "train", "step": 20, "epoch": 2, "loss": 1.5, "lr": 0.1}
"""


def test_a_metric_is_read_over_the_steps(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LOG)
    loss = read_curve(file, kind="train", metric="loss")
    accuracy = read_curve(file, kind="val", metric="accuracy")
    assert loss is not None
    assert accuracy is not None
    assert (loss.steps.tolist(), loss.values.tolist()) == ([10, 20], [2.5, 1.5])
    assert (accuracy.steps.tolist(), accuracy.values.tolist()) == ([10], [0.25])


def test_a_metric_that_was_not_logged_has_no_curve(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_curve(file, kind="train", metric="loss") is None
    file.write_text(LOG)
    assert read_curve(file, kind="val", metric="loss") is None


@pytest.mark.parametrize("bad", ["{", "[1]", '{"kind": "train", "loss": 1}', '{"step": 1}'])
def test_the_error_about_a_malformed_line_names_it(tmp_path: Path, bad: str) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(LOG + bad + "\n")
    with pytest.raises(MalformedFileError, match="line 4"):
        read_curve(file, kind="train", metric="loss")
