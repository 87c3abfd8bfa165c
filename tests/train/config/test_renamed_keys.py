"""Recipe keys that have been renamed are still read under their earlier name."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm.errors import RecipeError, UsageError
from epalm.train.cli import app
from epalm.train.config import renamed_keys
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import load_recipe
from tests.train.helpers import make_world, train_command

NOTE = "recipe key 'normalise' is deprecated, it is now called 'normalize'"


@pytest.fixture(autouse=True)
def forgotten_notes() -> Iterator[None]:
    renamed_keys._note_renamed.cache_clear()
    yield
    renamed_keys._note_renamed.cache_clear()


@pytest.fixture
def propagated() -> Iterator[None]:
    """Log records reach `caplog` whatever command ran before."""
    logger = logging.getLogger("epalm")
    before = logger.propagate
    logger.propagate = True
    yield
    logger.propagate = before


@pytest.mark.usefixtures("propagated")
def test_an_earlier_key_is_read_from_files_and_changes_and_noted_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "own.toml"
    file.write_text('extends = "vqa2"\nnormalise = "token"\n')
    assert load_recipe(str(file)) == load_recipe("vqa2", [("normalize", "token")])
    changed = load_recipe(str(file), parse_changes(["normalise=sample"]))
    assert changed == load_recipe("vqa2")
    notes = [line for line in caplog.messages if NOTE in line]
    assert len(notes) == 1
    assert "normalise" not in changed.to_toml()


def test_a_file_with_both_names_of_a_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('extends = "vqa2"\nnormalise = "token"\nnormalize = "sample"\n')
    with pytest.raises(RecipeError, match="has normalise and normalize, which are one key"):
        load_recipe(str(file))


def test_a_run_recorded_with_the_earlier_key_is_resumed(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=1)
    assert CliRunner().invoke(app, train_command(world)).exit_code == 0
    recorded = tmp_path / "runs" / "run" / "recipe.toml"
    text = recorded.read_text()
    assert 'normalize = "token"' in text
    recorded.write_text(text.replace("normalize", "normalise"))
    assert CliRunner().invoke(app, train_command(world)).exit_code == 0
    other = CliRunner().invoke(app, train_command(world, "--set", "normalise=sample"))
    assert isinstance(other.exception, UsageError)
    assert "normalize in recipe.toml differ" in str(other.exception)
