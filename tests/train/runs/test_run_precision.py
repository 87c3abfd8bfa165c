"""The precision of a run's language model: chosen once, recorded, and kept."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epalm import precision
from epalm.errors import UsageError
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.cli import app
from epalm.train.config.recipe import load_recipe
from epalm.train.config.recipe_file import known_recipes
from epalm.train.parallel.distributed import Group
from tests.train.helpers import World, make_world, train_command

SHORT = ["--set", "epochs=1", "--limit", "8"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def run(world: World, *extra: str) -> str:
    """What `epalm-train` prints."""
    result = CliRunner().invoke(app, train_command(world, *SHORT, *extra))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def have_bf16(monkeypatch: pytest.MonkeyPatch, *, native: bool) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: native)


def recorded(world: World) -> tuple[str, str]:
    """The precision in run.json and the one in recipe.toml."""
    folder = world.root / "runs/run"
    recipe = tomllib.loads((folder / "recipe.toml").read_text())
    return RunRecord.load(folder).model.precision, recipe["lm_precision"]


@pytest.mark.parametrize(("native", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_the_machines_precision_and_records_it(
    world: World, monkeypatch: pytest.MonkeyPatch, chosen: str, *, native: bool
) -> None:
    have_bf16(monkeypatch, native=native)
    output = run(world, "--precision", "auto")
    assert f"precision {chosen}, chosen for cpu" in output
    assert f"frozen weights, {chosen}" in output
    assert "slow" not in output
    assert recorded(world) == (chosen, chosen)


@pytest.mark.parametrize("first", ["fp32", "bf16"])
def test_a_resumed_run_keeps_its_precision_on_a_machine_that_prefers_another(
    world: World, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    run(world, "--precision", first)
    have_bf16(monkeypatch, native=first == "fp32")
    output = run(world, "--precision", "auto")
    assert f"precision {first}, as recorded in" in output
    assert "is finished already" in output
    assert recorded(world) == (first, first)


def test_another_explicit_precision_is_refused_and_fresh_chooses_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(world, "--precision", "fp32")
    have_bf16(monkeypatch, native=True)
    with pytest.raises(UsageError, match="is a run with other settings"):
        run(world, "--precision", "bf16")
    run(world, "--precision", "auto", "--fresh")
    assert recorded(world) == ("bf16", "bf16")


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_a_slow_precision_trains_with_one_warning_that_names_fp32(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    have_bf16(monkeypatch, native=False)
    output = run(world, "--precision", asked, "--quiet")
    assert output.count("slow") == output.count("fp32 is faster") == 1
    assert recorded(world) == (asked, asked)


def test_a_language_model_that_is_trained_has_fp32_where_bf16_is_native(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_bf16(monkeypatch, native=True)
    run(world, "--precision", "auto", "--variant", "finetune-lm", "--set", "inject=auto")
    assert recorded(world) == ("fp32", "fp32")


def test_a_dry_run_plans_the_precision_that_training_would_choose(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    have_bf16(monkeypatch, native=True)
    assert "frozen weights, bf16" in run(world, "--dry-run", "--precision", "auto")
    run(world, "--precision", "fp32")
    assert "frozen weights, fp32" in run(world, "--dry-run", "--precision", "auto")


def test_none_of_the_packaged_recipes_fixes_a_precision() -> None:
    assert {load_recipe(name).lm_precision for name in known_recipes()} == {"auto"}


def test_several_processes_on_mps_are_refused() -> None:
    assert Group().device("mps") == "mps"
    with pytest.raises(UsageError, match="give --device cpu"):
        Group(0, 2, 0, 2).device("mps")
