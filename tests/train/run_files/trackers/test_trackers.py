"""Whole trainings with each tracker, read back from its own files; none needs a network."""

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from epalm.model.engine.model_batch import Batch
from epalm.tasks.types import Example
from epalm.train import trainer
from epalm.train.cli import app
from epalm.train.run_files.trackers.validation_samples import ValidationSamples
from tests.train.helpers import COLORS, TRAIN, VAL, World, logged, make_world, train_command
from tests.train.run_files.trackers import wandb_files

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the trackers' own dependencies

STEPS = [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
"""Logged steps of two epochs of ten, with a line every two steps."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose pictures exist, but one."""
    made = make_world(tmp_path_factory.mktemp("world"))
    for number in range(TRAIN + 1, TRAIN + VAL):
        Image.new("RGB", (40, 30), COLORS[number % 4]).save(made.data / f"{number}.png")
    return made


@pytest.fixture(autouse=True)
def elsewhere(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the trackers go to temporary folders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_PROJECT", tmp_path.name.replace("_", "-"))
    # read when trackio is imported, once in a process
    os.environ.setdefault("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
    monkeypatch.setattr(trainer, "LOG_STEPS", 2)


def train(world: World, name: str, *options: str) -> str:
    """What the command prints to standard output."""
    done = CliRunner().invoke(app, [*train_command(world, *options), "--name", name, "--quiet"])
    if done.exception:
        raise done.exception
    return done.stdout


class _Killed(BaseException):
    """The end of a process, which no handler of errors sees."""


def train_killed_and_resumed(
    world: World, name: str, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train until step 15, with a checkpoint of step 10, and then to the end."""
    step = trainer.train_step

    def killed(run: trainer.Trainer, batch: Batch | None) -> Tensor:
        if run.progress.step == 15:
            raise _Killed
        return step(run, batch)

    with monkeypatch.context() as patches:
        patches.setattr(trainer, "train_step", killed)
        with pytest.raises(_Killed):
            train(world, name, "--track", tracker)
    assert train(world, name, "--track", tracker) == ""


def curve(world: World, name: str, metric: str, kind: str = "train") -> dict[int, float]:
    """A metric of metrics.jsonl by step."""
    return {int(line["step"]): line[metric] for line in logged(world, kind, name)}


def adapter(world: World, name: str) -> bytes:
    return (world.root / "runs" / name / "adapter.safetensors").read_bytes()


def tracker_id(world: World, name: str, tracker: str) -> str:
    (only,) = json.loads((world.root / "runs" / name / "tracker.json").read_text()).items()
    assert only[0] == tracker
    return str(only[1])


@pytest.fixture(scope="module")
def plain(world: World) -> bytes:
    """The adapter of the same training without a tracker."""
    logger = logging.getLogger("epalm")
    before = logger.handlers, logger.propagate, logger.level
    train(world, "plain")
    logger.handlers, logger.propagate = before[:2]
    logger.setLevel(before[2])
    return adapter(world, "plain")


def test_tensorboard_has_curves_texts_and_images_of_a_resumed_run(
    world: World, plain: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_killed_and_resumed(world, "board", "tensorboard", monkeypatch)
    folder = world.root / "runs" / "board" / "tensorboard"
    assert len(list(folder.iterdir())) == 2
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0}).Reload()
    for name in ("loss", "lr", "epoch"):
        points = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert [event.step for event in events.Scalars(f"train/{name}")] == STEPS
        assert points == pytest.approx(curve(world, "board", name), rel=1e-6)
    assert min(event.value for event in events.Scalars("train/samples_per_s")) > 0
    scores = {event.step: event.value for event in events.Scalars("val/exact_match")}
    assert scores == pytest.approx(curve(world, "board", "exact_match", "val"))
    texts = [
        event.tensor_proto.string_val[0].decode()
        for event in events.Tensors("predictions/text_summary")
    ]
    assert len(texts) == 2
    assert texts[0].count("| what color |") == 8
    assert "/" not in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[
        0
    ].decode().replace("/s", "")
    # The first example's picture is missing, the second is number 41 of the manifest.
    assert "predictions/1" not in events.Tags()["images"]
    first, second = events.Images("predictions/2")
    assert (first.width, first.height, first.step, second.step) == (40, 30, 10, 20)
    assert adapter(world, "board") == plain


def test_wandb_resumes_the_same_run(
    world: World, plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_killed_and_resumed(world, "bees", "wandb", monkeypatch)
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    for file in files:
        wandb_files.wait_until_ended(file)
    identity = tracker_id(world, "bees", "wandb")
    assert [wandb_files.run_ids(file) for file in files] == [{identity}, {identity}]
    lines = [line for file in files for line in wandb_files.history(file)]
    losses = {int(str(line["step"])): line["train/loss"] for line in lines if "train/loss" in line}
    assert losses == pytest.approx(curve(world, "bees", "loss"))
    tables = [(line["step"], line.get("predictions/texts.nrows")) for line in lines]
    assert [step for step, rows in tables if rows == 8] == [10, 20]
    images = list((tmp_path / "wandb").glob("offline-run-*/files/**/*.png"))
    assert len({file.read_bytes() for file in images}) == len(COLORS)
    records = [record for file in files for record in wandb_files.records(file)]
    assert not [record for record in records if str(world.root) in str(record.run.config)]
    assert adapter(world, "bees") == plain


def test_trackio_resumes_the_same_run(
    world: World, plain: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_killed_and_resumed(world, "local", "trackio", monkeypatch)
    from trackio.sqlite_storage import SQLiteStorage

    project = os.environ["TRACKIO_PROJECT"]
    (name,) = SQLiteStorage.get_runs(project)
    assert name == f"local-{tracker_id(world, 'local', 'trackio')}"
    lines = SQLiteStorage.get_logs(project, name)
    losses = {line["step"]: line["train/loss"] for line in lines if "train/loss" in line}
    assert losses == pytest.approx(curve(world, "local", "loss"))
    shown = [line for line in lines if "predictions" in line]
    assert [line["step"] for line in shown] == [10, 20]
    assert "predictions/1" not in shown[0]
    assert shown[0]["predictions/2"]["caption"].startswith("what color")
    assert adapter(world, "local") == plain


def test_a_new_run_gets_another_id(world: World) -> None:
    train(world, "again", "--track", "tensorboard")
    first = tracker_id(world, "again", "tensorboard")
    train(world, "again", "--track", "tensorboard", "--fresh")
    assert tracker_id(world, "again", "tensorboard") != first
    assert len(list((world.root / "runs" / "again" / "tensorboard").iterdir())) == 1


def test_images_are_those_of_the_samples(world: World) -> None:
    numbers = range(TRAIN, TRAIN + VAL)
    examples = [Example(f"{n}.png", f"q{n}", "what color", (), (COLORS[n % 4],)) for n in numbers]
    (world.data / "44.png").write_bytes(b"no image")
    samples = ValidationSamples(examples, str(world.data), world.data)
    assert samples.rows == [0, 1, 3, 4, 6, 7, 9, 10]
    shown = samples.predictions([f"text {n}" for n in numbers])
    assert [one.prediction for one in shown] == [f"text {TRAIN + row}" for row in samples.rows]
    assert [one.image is None for one in shown] == [True, False, False, True, *[False] * 4]
    for row, one in zip(samples.rows, shown, strict=True):
        if one.image is not None:
            expected = np.array(Image.new("RGB", (40, 30), COLORS[(TRAIN + row) % 4]))
            assert np.array_equal(np.array(one.image), expected)
            assert one.references == (COLORS[(TRAIN + row) % 4],)


def test_predictions_of_samples_that_are_gone_have_no_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    examples = [Example("a.png", "q", "what color", (), ("red",))]
    samples = ValidationSamples(examples, str(tmp_path / "gone"), tmp_path)
    with caplog.at_level("INFO", logger="epalm"):
        (shown,) = samples.predictions(["blue"])
        samples.predictions(["red"])
    assert shown.image is None
    assert len([line for line in caplog.messages if "without their samples" in line]) == 1
