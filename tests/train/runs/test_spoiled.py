"""Failed training and failing disks end with one error and keep the last good checkpoint."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from epalm.errors import EpalmError, RunFolderError, Stopped, TrainingError
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.epalm import trainable_parameters
from epalm.train import trainer
from tests.train.helpers import World, logged, make_world
from tests.train.test_run_training import run, stop_after


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path, epochs=2)


def spoil_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let one step write NaN into a weight, after its loss was computed."""
    plain = trainer.train_step

    def spoiled(one: trainer.Trainer, batch: object) -> torch.Tensor:
        loss = plain(one, batch)  # type: ignore[arg-type]
        if one.progress.step == step:
            with torch.no_grad():
                list(trainable_parameters(one.model))[-1][1].fill_(float("nan"))
        return loss

    monkeypatch.setattr(trainer, "train_step", spoiled)


def test_weights_that_the_last_step_of_a_run_spoils_are_not_saved(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_step(monkeypatch, step=20)  # 2 epochs of 10 steps
    with pytest.raises(TrainingError, match="is not finite after step 20: lower lr, set clip_norm"):
        run(world)
    assert [line["epoch"] for line in logged(world, "val")] == [1]
    assert all(
        weight.isfinite().all() for _, weight in trainable_parameters(load_run(folder(world)).model)
    )
    monkeypatch.undo()
    run(world)
    assert [line["epoch"] for line in logged(world, "val")] == [1, 2]


def folder(world: World) -> Path:
    return world.root / "runs" / "run"


def test_a_score_that_is_no_number_chooses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "epalm.train.validation.validation.Validation.__call__", lambda self: {"m": float("nan")}
    )
    with pytest.raises(TrainingError, match="the validation score m is nan"):
        run(world)
    assert not (folder(world) / "adapter.safetensors").exists()


WRITES = ["checkpoint.safetensors", "last.safetensors", "adapter.safetensors"]


@pytest.mark.parametrize("name", WRITES)
def test_a_refused_write_keeps_the_last_checkpoint(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as changes:
        stop_after(changes, epoch=1)
        with pytest.raises(Stopped):
            run(world, "--set", "lr=0.02")
    kept = (folder(world) / "checkpoint.safetensors").read_bytes()
    plain = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(path, target)

    with monkeypatch.context() as changes:
        changes.setattr(Path, "replace", refuse)
        changes.setattr(trainer, "SAVE_STEPS", 10)
        words = r"runs/run could not be written \(No space left on device\): free some space"
        with pytest.raises(RunFolderError, match=words):
            run(world, "--set", "lr=0.02", "--set", "epochs=2")
    if name == "checkpoint.safetensors":
        assert (folder(world) / name).read_bytes() == kept
    assert not list(folder(world).glob(".*.new"))
    run(world, "--set", "lr=0.02")
    run(world, "--set", "lr=0.02", "--name", "undisturbed")
    assert logged(world, "train") == logged(world, "train", "undisturbed")


def mount(*options: str) -> None:
    done = subprocess.run(["mount", *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small file system takes root: {done.stderr.strip()}")


@pytest.fixture
def disk(world: World) -> Iterator[Path]:
    """The folder of all runs as a file system of its own, 4 MB."""
    runs = world.root / "runs"
    runs.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(runs))
    yield runs
    subprocess.run(["umount", str(runs)], check=True)


def fill(disk: Path, *, leave: int) -> Path:
    """A file that fills the disk but for the given number of bytes."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    ballast.write_bytes(b"x" * max(state.f_bavail * state.f_frsize - leave, 0))
    return ballast


def refused(world: World, words: str) -> None:
    with pytest.raises(EpalmError, match=words) as refusal:
        run(world)
    assert refusal.value.exit_code == 1


def test_full_and_read_only_disks_end_with_one_error_and_the_same_command_resumes(
    world: World, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = r"runs/run could not be written \(.*No space left on device.*\): free some space"
    ballast = fill(disk, leave=0)
    refused(world, full)
    ballast.unlink()
    mount("-o", "remount,ro", str(disk))
    refused(world, r"could not be written \(Read-only file system\): free some space or give")
    mount("-o", "remount,rw", str(disk))
    with monkeypatch.context() as changes:
        stop_after(changes, epoch=1)
        with pytest.raises(Stopped):
            run(world)
    kept = {name: (folder(world) / name).read_bytes() for name in WRITES}
    ballast = fill(disk, leave=8192)  # less than a checkpoint of this model
    refused(world, full)
    assert {name: (folder(world) / name).read_bytes() for name in WRITES} == kept
    assert not list(folder(world).glob(".*.new"))
    ballast.unlink()
    mount("-o", "remount,ro", str(disk))
    refused(world, r"could not be written \(Read-only file system\)")
    mount("-o", "remount,rw", str(disk))
    run(world)
    run(world, "--name", "undisturbed")
    assert logged(world, "train") == logged(world, "train", "undisturbed")
