"""A tracker that fails never ends a training."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from epalm.errors import MissingToolError
from epalm.train.cli import app
from epalm.train.options.command_options import TrainOptions
from epalm.train.options.train_config import RuntimeConfig
from epalm.train.parallel.distributed import Group
from epalm.train.run_files.trackers import tracking
from epalm.train.run_files.trackers.tracker import ShownPrediction, TrackedRun, markdown_table
from epalm.train.run_files.trackers.tracker_package import check_tracker
from epalm.train.run_files.trackers.tracking import TRACKERS, Tracking
from epalm.train.run_files.trackers.validation_samples import ValidationSamples
from epalm.train.run_training import _tracking
from tests.train.helpers import World, logged, make_world, train_command


class Fake:
    """A tracker whose methods raise an exception."""

    def __init__(self, run: TrackedRun, error: BaseException | None = None) -> None:
        print("welcome")  # noqa: T201 - as trackers do
        self.run, self.error = run, error
        self.values: list[tuple[object, int]] = []
        self.finished = 0

    def log(self, values: object, step: int) -> None:
        if self.error:
            raise self.error
        self.values.append((values, step))

    def show(self, predictions: object, step: int) -> None:
        self.log(predictions, step)

    def finish(self) -> None:
        self.finished += 1
        if self.error:
            raise self.error


def tracked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[TrackedRun], Fake]
) -> Tracking:
    monkeypatch.setitem(TRACKERS, "fake", opened)
    run = TrackedRun(folder, "run", "", 0, {})
    return Tracking("fake", run, ValidationSamples([], "", folder))


def test_values_are_named_by_their_kind_and_keep_their_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[Fake] = []

    def fake(run: TrackedRun) -> Fake:
        opened.append(Fake(run))
        return opened[-1]

    with tracked(tmp_path, monkeypatch, fake) as tracking:
        tracking.resume_from(10)
        assert not opened
        tracking.append("train", 12, loss=1.5, lr=0.1)
        tracking.append("val", 12, accuracy=0.5)
        tracking.show([])
    (only,) = opened
    assert only.values == [
        ({"train/loss": 1.5, "train/lr": 0.1}, 12),
        ({"val/accuracy": 0.5}, 12),
        ([], 12),
    ]
    assert only.finished == 1
    assert only.run.step == 10  # not that of the first line
    assert only.run.id == json.loads((tmp_path / "tracker.json").read_text())["fake"]
    assert capsys.readouterr().out == ""  # which is for results
    assert tracking.failures == 0


@pytest.mark.parametrize("error", [OSError("no\nroute"), ValueError(), SystemExit(3)])
def test_failures_are_counted_and_warned_about_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
) -> None:
    opening = tracked(tmp_path, monkeypatch, lambda run: Fake(run, error))
    with opening as tracking:
        for step in range(5):
            tracking.append("train", step, loss=1.0)
    assert tracking.failures == 6
    first, last = caplog.messages
    reason = {OSError: "no route", ValueError: "ValueError", SystemExit: "3"}[type(error)]
    assert first.startswith(f"--track fake failed ({reason}): training continues")
    assert last == "fake: 6 calls failed"


def test_a_tracker_that_cannot_be_opened_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def fake(run: TrackedRun) -> Fake:
        attempts.append(run.id)
        if len(attempts) < 3:
            raise OSError("busy")
        return Fake(run)

    with tracked(tmp_path, monkeypatch, fake) as tracking:
        for step in range(5):
            tracking.append("train", step, loss=1.0)
    assert tracking.failures == 2
    assert len(attempts) == 3
    assert len(set(attempts)) == 1


@pytest.mark.parametrize("content", ["[]", "{", '{"fake": 3}', '{"fake": "../../etc"}'])
def test_a_damaged_id_is_a_failure_and_no_crash(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    content: str,
) -> None:
    (tmp_path / "tracker.json").write_text(content)
    with tracked(tmp_path, monkeypatch, Fake) as tracking:
        tracking.append("train", 1, loss=1.0)
    assert tracking.failures == 1
    assert "tracker.json" in caplog.messages[0]
    assert (tmp_path / "tracker.json").read_text() == content


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), epochs=1)


def test_a_training_whose_tracker_fails_ends_as_without(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: TrackedRun) -> Fake:
        raise RuntimeError("no network")

    monkeypatch.setitem(tracking.TRACKERS, "wandb", broken)
    for name, options in (("plain", []), ("broken", ["--track", "wandb"])):
        arguments = [*train_command(world, *options), "--name", name, "--quiet"]
        done = CliRunner().invoke(app, arguments)
        assert done.exception is None
    assert logged(world, "train", "broken") == logged(world, "train", "plain")
    runs = world.root / "runs"
    plain, other = (runs / name / "adapter.safetensors" for name in ("plain", "broken"))
    assert plain.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_refused_before_anything_is_loaded(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    find = importlib.util.find_spec

    def missing(wanted: str, *rest: str) -> object:
        return None if wanted == name else find(wanted, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", missing)
    monkeypatch.setattr(
        "epalm.train.run_training.build_model", lambda *_: pytest.fail("a model was loaded")
    )
    done = CliRunner().invoke(app, train_command(world, "--track", name))
    assert isinstance(done.exception, MissingToolError)
    assert f"pip install 'epalm[{name}]'" in str(done.exception)


def test_a_folder_of_the_name_of_a_package_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quite_a_tracker").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(MissingToolError):
        check_tracker("quite_a_tracker")
    check_tracker(None)


def test_the_option_names_the_trackers() -> None:
    (names, none) = get_args(get_type_hints(TrainOptions)["track"])
    assert get_args(names) == tuple(TRACKERS)
    assert none is type(None)


def test_texts_cannot_break_out_of_their_cell() -> None:
    shown = ShownPrediction("a | b", "c\nd", ("e", "f"), None)
    assert markdown_table([shown]).splitlines()[2:] == ["| a \\| b | c d | e; f |"]


def test_only_rank_0_tracks(tmp_path: Path) -> None:
    other = RuntimeConfig(tmp_path, track="wandb", group=Group(1, 2))
    unused = cast("Any", None)
    with _tracking(unused, unused, unused, unused, other) as tracking:
        assert tracking is None
    assert list(tmp_path.iterdir()) == []
