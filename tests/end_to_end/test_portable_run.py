"""A run folder has no absolute path, and works where it is moved to."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.evaluate import cli as evaluate_cli
from epalm.model.checkpoints.run_record import RunRecord
from epalm.train import cli as train_cli
from tests.train.helpers import World, make_world, train_command


def command(monkeypatch: pytest.MonkeyPatch, module: object, *arguments: object) -> None:
    """Run a command of epalm in this process."""
    monkeypatch.setattr(sys, "argv", ["epalm", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        module.main()  # type: ignore[attr-defined]
    assert ended.value.code == 0


def evaluated(monkeypatch: pytest.MonkeyPatch, run: Path, *more: object) -> bytes:
    """The predictions of an evaluation of the run."""
    options = ("--run", run, "--split", "val", "--device", "cpu", "--quiet", *more)
    command(monkeypatch, evaluate_cli, *options)
    return (run / "eval/val/predictions.jsonl").read_bytes()


def spellings(folder: Path) -> list[bytes]:
    """The ways in which a file may have the path of a folder."""
    path = str(folder)
    escaped = path.replace("/", "\\/")
    return [path.encode(), escaped.encode(), path.encode("utf-16-le"), path.lstrip("/").encode()]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with a run that was trained and evaluated."""
    world = make_world(tmp_path / "here", epochs=1)
    command(monkeypatch, train_cli, *train_command(world), "--quiet")
    return world


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()


def test_no_file_of_a_run_has_an_absolute_path(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.root / "runs" / "run"
    evaluated(monkeypatch, run)
    evaluated(monkeypatch, run, "--blind")
    files = [file for file in run.rglob("*") if file.is_file()]
    assert {file.name for file in files} >= {
        *("README.md", "config.json", "run.json", "recipe.toml", "scores.json", "report.html"),
        *("adapter.safetensors", "checkpoint.safetensors", "last.safetensors", "metrics.jsonl"),
    }
    actual = {
        str(file.relative_to(run)): spelling
        for file in files
        for spelling in spellings(tmp_path)
        if spelling in file.read_bytes()
    }
    assert actual == {}


def test_a_run_that_moved_with_its_data_is_evaluated_as_before(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluated(monkeypatch, world.root / "runs" / "run")
    moved = tmp_path / "elsewhere" / "deep"
    moved.parent.mkdir()
    shutil.move(world.root, moved)
    assert evaluated(monkeypatch, moved / "runs" / "run") == before


def test_a_run_that_moved_alone_is_evaluated_on_what_the_options_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = evaluated(monkeypatch, world.root / "runs" / "run")
    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(world.root / "runs" / "run", moved)
    shutil.move(world.root, tmp_path / "other")
    options = {"--features": "store.zarr", "--data-root": "data", "--lm": "lm"}
    places = [word for name, file in options.items() for word in (name, tmp_path / "other" / file)]
    assert evaluated(monkeypatch, moved, *places) == before
    scores = json.loads((moved / "eval/val/scores.json").read_text())
    assert scores["features"] == "../../../../other/store.zarr"


def test_a_run_resumes_on_a_store_and_a_language_model_that_have_moved(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = world.root / "runs" / "run"
    before = (run / "metrics.jsonl").read_bytes()
    moved = tmp_path / "other"
    moved.mkdir()
    for name in ("store.zarr", "data", "lm"):
        shutil.move(world.root / name, moved / name)
    options = train_command(replace(world, store=moved / "store.zarr"), "--quiet")
    options += ["--data-root", str(moved / "data"), "--lm", str(moved / "lm")]
    command(monkeypatch, train_cli, *options)
    assert (run / "metrics.jsonl").read_bytes() == before
    assert RunRecord.load(run).features == str(moved / "store.zarr")
    assert RunRecord.load(run).model.lm == str(moved / "lm")
    evaluated(monkeypatch, run)


def test_a_run_does_not_resume_on_other_examples(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world.root / "data", tmp_path / "other")
    lines = (tmp_path / "other/train.jsonl").read_text().replace('"red"', '"blue"')
    (tmp_path / "other/train.jsonl").write_text(lines)
    options = [*train_command(world), "--quiet", "--data-root", str(tmp_path / "other")]
    monkeypatch.setattr(sys, "argv", ["epalm", *options])
    with pytest.raises(SystemExit) as ended:
        train_cli.main()
    assert ended.value.code == 2
