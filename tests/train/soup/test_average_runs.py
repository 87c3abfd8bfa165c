"""`epalm-train soup`: averages of runs that start alike."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from epalm.errors import RunFolderError, UsageError
from epalm.evaluate import cli as evaluate_cli
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train.cli import app
from tests.train.helpers import World, make_world, train_command

NAMES = ("one", "two", "three")


def invoke(arguments: list[str], command: object = app) -> str:
    result = CliRunner().invoke(command, arguments)  # type: ignore[arg-type]
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def train(world: World, name: str, seed: int, *changes: str) -> None:
    changed = [part for change in changes for part in ("--set", change)]
    invoke(train_command(world, "--name", name, "--seed", str(seed), *changed, "--quiet"))


def soup(world: World, *arguments: str) -> str:
    return invoke(["soup", *arguments, "--out", str(world.root / "runs")])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = make_world(tmp_path_factory.mktemp("world"), epochs=1)
    for seed, name in enumerate(NAMES):
        train(made, name, seed, "init_seed=5")
    return made


def test_the_average_is_a_run_that_is_evaluated_and_reported(world: World) -> None:
    printed = json.loads(soup(world, *NAMES, "--name", "mean", "--json"))
    assert printed["run"] == "mean"
    runs = world.root / "runs"
    weights = [load_file(runs / name / "adapter.safetensors") for name in NAMES]
    actual = load_file(runs / "mean" / "adapter.safetensors")
    assert actual.keys() == weights[0].keys()
    for name, tensor in actual.items():
        expected = np.stack([one[name].astype(np.float64) for one in weights]).sum(axis=0) / 3
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, expected.astype(np.float32))
        assert not np.array_equal(tensor, weights[0][name])
    loaded = load_run(runs / "mean")
    trained = dict(loaded.model.named_parameters())
    assert all(np.array_equal(trained[name].detach(), actual[name]) for name in actual)
    told = json.loads((runs / "mean" / "soup.json").read_text())
    assert told["init_seed"] == 5
    assert [(run["name"], run["seed"]) for run in told["runs"]] == [
        *zip(NAMES, range(3), strict=True)
    ]
    evaluation = ["--run", "mean", "--runs", str(runs), "--split", "val", "--device", "cpu"]
    invoke([*evaluation, "--quiet"], evaluate_cli.app)
    page = (runs / "mean/eval/val/report.html").read_text()
    words = "average of the runs with seeds 0, 1, 2, all initialized with 5"
    assert words in page
    assert words in (runs / "mean" / "README.md").read_text()


def test_runs_with_other_settings_or_starts_are_refused_with_the_difference(world: World) -> None:
    train(world, "faster", 3, "init_seed=5", "lr=0.02")
    with pytest.raises(UsageError, match=r"faster cannot be .*/one, they differ in lr \(0.01 and"):
        soup(world, "one", "faster")
    train(world, "longer", 3, "init_seed=5", "prompt_length=3")
    with pytest.raises(UsageError, match=r"differ in prompt_length \(2 and 3\); trained \(\d+ and"):
        soup(world, "one", "longer")
    train(world, "blind", 3, "init_seed=5")
    file = world.root / "runs" / "blind" / "run.json"
    file.write_text(file.read_text().replace('"blind": false', '"blind": true'))
    with pytest.raises(UsageError, match=r"they differ in blind \(False and True\)"):
        soup(world, "one", "blind")
    for seed in (0, 1):
        train(world, f"own{seed}", seed)
    with pytest.raises(UsageError, match=r"different starts.*--set init_seed=1"):
        soup(world, "own0", "own1")
    shutil.copytree(world.root / "runs/one", world.root / "runs/copy")
    with pytest.raises(UsageError, match="the seeds 0, 0: equal seeds make equal runs"):
        soup(world, "one", "copy")
    with pytest.raises(UsageError, match="at least two runs"):
        soup(world, "one")


def test_unfinished_runs_and_taken_names_are_refused(world: World) -> None:
    left = shutil.copytree(world.root / "runs/two", world.root / "runs/left")
    lines = (left / "metrics.jsonl").read_text().splitlines()
    kept = [line for line in lines if '"kind": "val"' not in line]
    (left / "metrics.jsonl").write_text("".join(line + "\n" for line in kept))
    with pytest.raises(RunFolderError, match="has finished 0 of 1 epochs"):
        soup(world, "one", "left")
    with pytest.raises(UsageError, match=r"two is there already.*--fresh"):
        soup(world, "one", "three", "--name", "two")
    assert RunRecord.load(world.root / "runs/two").seed == 1


def test_the_start_is_that_of_the_seed_unless_init_seed_names_another(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path, epochs=1)
    tiny = ("schedule.warmup_steps=100000", "lr=1e-30", "schedule.min_lr=0.0", "lm_dropout=0.0")
    for name, seed, init in (("own", 3, 0), ("same", 3, 3), ("other", 4, 3), ("apart", 4, 0)):
        train(world, name, seed, f"init_seed={init}", *tiny)
    adapters = [
        load_file(world.root / "runs" / name / "adapter.safetensors")
        for name in ("own", "same", "other", "apart")
    ]
    own, same, other, apart = [
        np.concatenate([values.ravel() for _, values in sorted(tensors.items())])
        for tensors in adapters
    ]
    assert np.array_equal(own, same)
    assert np.array_equal(own, other)  # a learning rate of nearly 0 leaves the start
    assert not np.allclose(own, apart)
