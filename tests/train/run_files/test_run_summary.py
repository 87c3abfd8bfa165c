"""The JSON document of a training."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm.train.cli import app
from tests.train.helpers import World, logged, make_world, train_command


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_a_training_and_its_repetition_print_the_same_document(world: World) -> None:
    command = train_command(world, "--json", "--quiet")
    first, again = (CliRunner().invoke(app, command) for _ in range(2))
    assert first.exception is None
    assert first.stdout == again.stdout
    actual = json.loads(first.stdout)
    assert (actual["run"], actual["folder"]) == ("run", str(world.root / "runs" / "run"))
    assert (actual["task"], actual["blind"], actual["variant"]) == ("manifest", False, "full")
    lines = logged(world, "val")
    assert [one["epoch"] for one in actual["validations"]] == [1, 2]
    assert [one["scores"]["exact_match"] for one in actual["validations"]] == [
        line["exact_match"] for line in lines
    ]
    card = (Path(actual["folder"]) / "README.md").read_text()
    best = actual["best"]
    score = 100 * best["scores"]["exact_match"]
    assert f"{score:.2f} (exact\\_match, epoch {best['epoch']})" in card
    assert actual["seconds"] > 0
