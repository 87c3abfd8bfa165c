"""Memory figures that a run prints before it starts, in a dry run and in a real one."""

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from epalm.errors import ModelError
from epalm.train.cli import app
from epalm.train.estimate import memory_advice
from epalm.train.estimate.memory_advice import MemoryInputs, free_on, suggestions
from epalm.train.estimate.memory_estimate import shape_model
from epalm.train.estimate.step_memory import StepShape
from epalm.train.estimate.weight_memory import WeightPlacement
from epalm.train.parallel.distributed import ALONE, Group
from tests.model.helpers import settings
from tests.train.estimate.test_memory_estimate import OPT_66B
from tests.train.helpers import World, make_world, train_command
from tests.train.parallel.ranks import vary_answers


def weightless(world: World) -> World:
    """The same world, its language model's weights deleted."""
    (world.root / "lm" / "model.safetensors").unlink()
    return world


def grown(world: World) -> World:
    """The same world, its language model as large as OPT-66B, without weights."""
    (world.root / "lm" / "config.json").write_text(json.dumps(OPT_66B))
    return weightless(world)


def invoke(world: World, *extra: str) -> Result:
    return CliRunner().invoke(app, train_command(world, *extra))


def give(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(memory_advice, "free_memory", lambda: int(free))


def test_a_dry_run_reads_no_weights_and_writes_no_files(tmp_path: Path) -> None:
    world = weightless(make_world(tmp_path))
    result = invoke(world, "--dry-run")
    assert result.exit_code == 0, result.exception
    assert "frozen weights, fp32" in result.stdout
    assert result.stdout.rstrip().endswith("fits")
    assert not (tmp_path / "runs").exists()


def test_the_planned_step_is_that_of_the_data(tmp_path: Path) -> None:
    world = weightless(make_world(tmp_path))
    vary_answers(world)
    result = invoke(world, "--dry-run", "--set", "batch_size=20")
    # begin token, two words, one to three answers, end token: 13 texts of each length, 5 to 7;
    # 20 of them have 120 tokens, with a deviation of sqrt(20 * 2 / 3) = 3.65
    assert "20 examples a step in each of 1 processes, 131 tokens" in result.stdout
    assert "the longest text has 7" in result.stdout


def test_opt_66b_does_not_fit_a_laptop_and_the_dry_run_says_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 80e9)
    world = grown(make_world(tmp_path))
    result = invoke(world, "--dry-run", "--set", "inject=auto", "--precision", "bf16")
    assert result.exit_code == 1
    assert isinstance(result.exception, ModelError)
    assert "bf16 131 GB" in " ".join(result.stdout.split())
    offered = [line for line in result.stdout.splitlines() if line.startswith("  ")]
    assert [line.split("  (")[0].strip() for line in offered] == [
        "--precision int8",
        "--precision int4",
        "--shard-weights with torchrun --nproc-per-node 8",
    ]


def test_a_run_is_refused_before_it_reads_weights_that_cannot_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 80e9)
    result = invoke(grown(make_world(tmp_path)), "--set", "inject=auto")
    assert isinstance(result.exception, ModelError)
    assert "frozen weights take 263 GB" in str(result.exception)
    assert not (tmp_path / "runs").exists()


def test_every_run_says_in_one_line_what_it_takes(tmp_path: Path) -> None:
    result = invoke(make_world(tmp_path, epochs=1))
    assert result.exit_code == 0, result.exception
    assert "memory of cpu:" in " ".join(result.stderr.split())


def test_a_few_changes_together_are_offered_only_where_none_alone_is_enough(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(OPT_66B))
    model = shape_model(settings("full", lm=str(tmp_path), encoder_width=768))
    load = StepShape(256, 256, 6000, 40)
    for free, count in ((300e9, 1), (80e9, 1), (50e9, 2), (30e9, 3), (1e9, 0)):
        setup = MemoryInputs(model, WeightPlacement("fp32"), load, int(free))
        assert not setup.plan().fits
        found = suggestions(setup, 256)
        named = {len(re.findall(r"--(?!nproc)", option)) for option, _ in found}
        assert named == ({count} if count else set()), free
        assert all(plan.fits and plan.total < setup.plan().total for _, plan in found)


def test_processes_divide_the_memory_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, 1000)
    assert free_on("cpu", ALONE) == 1000
    assert free_on("cpu", Group(0, 8, 0, 4)) == 250


def test_a_dry_run_for_programs_has_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, 80e9)
    world = make_world(tmp_path)
    fitting = json.loads(invoke(world, "--dry-run", "--json", "--quiet").stdout)
    assert fitting["fits"] is True
    assert fitting["would_fit"] == []
    assert sum(fitting["bytes"].values()) == fitting["total_bytes"] < fitting["free_bytes"]
    result = invoke(grown(world), "--dry-run", "--json", "--set", "inject=auto", "--quiet")
    assert isinstance(result.exception, ModelError)
    refused = json.loads(result.stdout)
    assert refused["fits"] is False
    assert "--precision int4" in [one["options"] for one in refused["would_fit"]]
