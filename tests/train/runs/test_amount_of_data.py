"""Which split, and how much of it, a run trains on."""

import logging
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm.errors import UnknownSplitError, UsageError
from epalm.tasks.types import Example
from epalm.train.cli import app
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import load_recipe
from epalm.train.data.datasets import draw_training
from tests.train.helpers import World, logged, make_world, train_command

EXAMPLES = [
    Example(f"{number}.png", str(number), "what", ("red",), ("red",)) for number in range(1000)
]


def drawn(*changes: str, seed: int = 0) -> list[int]:
    chosen = draw_training(EXAMPLES, load_recipe("small", parse_changes(changes)), seed)
    return [int(example.question_id) for example in chosen]


def run(world: World, *extra: str) -> None:
    result = CliRunner().invoke(app, train_command(world, *extra))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, epochs=1)


def test_training_uses_all_examples_unless_the_recipe_limits_them() -> None:
    assert drawn() == list(range(1000))
    assert drawn("train_examples=1000") == drawn("train_examples=5000") == list(range(1000))


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ("train_examples=512", 512),
        ("train_fraction=0.01", 10),
        ("train_fraction=0.1", 100),
        ("train_fraction=0.00001", 1),
    ],
)
def test_so_many_examples_are_drawn_and_keep_their_order(change: str, count: int) -> None:
    actual = drawn(change)
    assert len(set(actual)) == len(actual) == count
    assert actual == sorted(actual)
    assert actual != list(range(count))


def test_the_seed_alone_says_which_examples() -> None:
    assert drawn("train_examples=50") == drawn("train_fraction=0.05")
    assert drawn("train_examples=50") != drawn("train_examples=50", seed=1)


def test_fewer_examples_are_a_part_of_more() -> None:
    assert set(drawn("train_fraction=0.01")) < set(drawn("train_fraction=0.1"))


@pytest.mark.parametrize(
    ("options", "key", "steps"),
    [
        (("--train-examples", "6"), "train_examples", 2),
        (("--train-fraction", "0.2"), "train_fraction", 2),
        (("--train-split", "val", "--val-split", "train"), "train_split", 3),
    ],
)
def test_a_run_takes_that_number_of_steps_and_records_the_amount(
    world: World, options: tuple[str, ...], key: str, steps: int
) -> None:
    run(world, *options)
    assert logged(world, "val")[-1]["step"] == steps
    recipe = tomllib.loads((world.root / "runs" / "run" / "recipe.toml").read_text())
    assert str(recipe[key]) == options[1]


def test_a_run_is_not_resumed_with_another_amount_of_data(world: World) -> None:
    run(world, "--train-examples", "6")
    with pytest.raises(UsageError, match=r"recipe.toml differ"):
        run(world, "--train-examples", "7")


def test_the_number_of_drawn_examples_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        drawn("train_examples=50", seed=3)
    assert caplog.messages == ["50 of 1000 training examples drawn, seed 3"]


def test_a_split_that_the_task_does_not_have_is_refused(world: World) -> None:
    with pytest.raises(UnknownSplitError, match="no split 'standard_train'"):
        run(world, "--train-split", "standard_train")


def test_two_amounts_are_refused(world: World) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        run(world, "--train-examples", "6", "--train-fraction", "0.1")
