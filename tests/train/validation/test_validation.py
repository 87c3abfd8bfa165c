"""Warnings of training about its validation answers."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm.metrics import answer_variety
from epalm.train.cli import app
from epalm.train.validation.validation import Validation
from tests.train.helpers import make_world, train_command


@pytest.mark.parametrize("option", [[], ["--blind"]])
def test_identical_answers_give_a_warning_except_in_a_blind_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str]
) -> None:
    monkeypatch.setattr(answer_variety, "MIN_EXAMPLES", 5)
    monkeypatch.setattr(answer_variety, "MIN_DISTINCT_FRACTION", 0.2)  # one of twelve is less
    monkeypatch.setattr(Validation, "_answer", lambda _, examples: ["red"] * len(examples))
    command = train_command(make_world(tmp_path, epochs=1), *option)
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert ("only 1 of 12 answers are distinct" in done.output) is not bool(option)
