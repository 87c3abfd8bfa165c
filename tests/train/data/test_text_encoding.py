"""Texts with more tokens than the language model has positions are refused before training."""

import json

import pytest
from typer.testing import CliRunner

from epalm.errors import ModelError
from epalm.train.cli import app
from tests.train.helpers import World, logged, make_world, train_command

POSITIONS = 32
"""Of the world's language model, see `save_language_model`."""


def change(world: World, split: str, place: int, **fields: object) -> None:
    """Give one line of a manifest other fields."""
    file = world.data / f"{split}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[place].update(fields)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def words(count: int) -> str:
    return " ".join(["what"] * count)


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), epochs=1)


def refused(world: World, *extra: str) -> str:
    result = CliRunner().invoke(app, train_command(world, *extra))
    assert isinstance(result.exception, ModelError), result.exception
    assert not (world.root / "runs").exists()
    return str(result.exception)


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_a_question_that_is_too_long_to_learn_is_named(world: World, extra: list[str]) -> None:
    change(world, "train", 7, prompt=words(40))
    change(world, "train", 9, prompt=words(50))
    actual = refused(world, *extra)
    assert actual == (
        f"train of manifest in {world.data}: example 'q7' has 41 tokens of prompt and 2 of answer "
        "('white'), the language model has 32 positions (too long: 2 of 39 examples): shorten such "
        "examples or leave them out"
    )


def test_the_longest_of_several_answers_decides(world: World) -> None:
    change(world, "train", 5, answers=["red", words(40), "blue"])
    actual = refused(world)
    shown = f"'{words(7)} ...'"
    assert f"'q5' has 3 tokens of prompt and 41 of answer ({shown})" in actual
    assert "1 of 39 examples" in actual


@pytest.mark.parametrize("extra", [[], ["--dry-run"]])
def test_a_validation_prompt_that_leaves_no_room_is_named_before_training(
    world: World, extra: list[str]
) -> None:
    change(world, "val", 2, prompt=words(POSITIONS - 1 - 2 + 1))
    actual = refused(world, *extra)
    assert actual.startswith(f"val of manifest in {world.data}: example 'q42' has 31 tokens")
    assert "and 2 of answer (max_new_tokens)" in actual
    assert actual.endswith("leave them out, or lower max_new_tokens")


def test_texts_that_fill_all_positions_are_trained_on_and_answered(world: World) -> None:
    change(world, "train", 7, prompt=words(POSITIONS - 3))  # begin token, answer, end token
    change(world, "val", 2, prompt=words(POSITIONS - 3))  # begin token, max_new_tokens = 2
    result = CliRunner().invoke(app, train_command(world))
    assert result.exit_code == 0, result.exception
    assert len(logged(world, "val")) == 1
