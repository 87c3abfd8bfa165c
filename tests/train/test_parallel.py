"""Several processes that train one model, as torchrun starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from epalm.errors import UsageError
from epalm.train.cli import app
from epalm.train.parallel import ALONE, Group
from tests.train.helpers import World, logged, make_world, train_command

COMMAND = [sys.executable, "-m", "epalm.train.cli"]
SURE = ("--set", "lm_dropout=0.0")


def test_without_torchrun_a_process_is_alone() -> None:
    assert Group.from_environment({"RANK": "3", "WORLD_SIZE": "8"}) == ALONE


def test_torchrun_tells_rank_and_machine() -> None:
    names = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}
    group = Group.from_environment({"TORCHELASTIC_RUN_ID": "x", **names})
    assert group == Group(rank=9, world=16, local_rank=1, local_world=8)
    assert not group.leads


@pytest.mark.parametrize("picked", ["cuda", "cuda:1"])
def test_each_process_takes_the_gpu_of_its_number_or_is_refused(
    monkeypatch: pytest.MonkeyPatch, picked: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Group(5, 8, 1, 2).device("cuda") == "cuda:1"
    assert Group(5, 8, 1, 2).device("cpu") == "cpu"
    assert ALONE.device(picked) == picked
    with pytest.raises(UsageError, match="on this machine, 2 GPUs"):
        Group(5, 8, 1, 4 if picked == "cuda" else 2).device(picked)


def test_one_process_keeps_loss_and_gradients_to_the_bit() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([0.1, 0.7])
    loss = torch.tensor(0.3)
    assert ALONE.average(loss, [weight], 7) is loss
    assert weight.grad.tolist() == torch.tensor([0.1, 0.7]).tolist()


def start_ranks(arguments: Sequence[str], count: int) -> list["subprocess.Popen[str]"]:
    """The processes that torchrun would start, without torchrun above them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    started = []
    for rank in range(count):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
        environment = os.environ | common | {name: str(value) for name, value in own.items()}
        environment["OMP_NUM_THREADS"] = "1"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*COMMAND, *arguments], env=environment, **pipes))
    return started


def finish(ranks: "Sequence[subprocess.Popen[str]]") -> tuple[list[int], list[str]]:
    """Exit codes, and what was written to standard error."""
    errors = [process.communicate(timeout=120)[1] for process in ranks]
    return [process.returncode for process in ranks], errors


def run_ranks(world: World, count: int, *extra: str) -> None:
    codes, errors = finish(start_ranks(train_command(world, *extra), count))
    assert codes == [0] * count, errors


def run_alone(world: World, *extra: str) -> None:
    result = CliRunner().invoke(app, train_command(world, *extra))
    assert result.exit_code == 0, result.exception


def wait_for_epochs(
    world: World, ranks: "Sequence[subprocess.Popen[str]]", epochs: int, name: str = "run"
) -> None:
    log = world.root / "runs" / name / "metrics.jsonl"
    while not log.is_file() or log.read_text().count('"val"') < epochs:
        assert all(process.poll() is None for process in ranks), finish(ranks)
        time.sleep(0.02)


def vary_answers(world: World) -> None:
    """Answers of one to three words, so that shares of a batch differ in their tokens."""
    file = world.data / "train.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["answers"] = [" ".join(line["answers"] * (1 + number % 3))]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def assert_same_training(world: World, left: str, right: str) -> None:
    ours, wanted = (logged(world, "train", name) for name in (left, right))
    assert [line["step"] for line in ours] == [line["step"] for line in wanted]
    assert [line["loss"] for line in ours] == pytest.approx(
        [line["loss"] for line in wanted], abs=1e-5
    )
    assert logged(world, "val", left) == logged(world, "val", right)
    files = [world.root / "runs" / name / "last.safetensors" for name in (left, right)]
    weights, expected = map(load_file, files)
    for name, weight in weights.items():
        assert torch.allclose(weight, expected[name], atol=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("batch_size=19", "normalise=token"),  # 39 examples: the last batch leaves one rank idle
        ("batch_size=7", "normalise=sample", "clip_norm=0.5", "inject=1:2"),  # an idle connector
    ],
)
def test_losses_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    world = make_world(tmp_path, epochs=6)
    vary_answers(world)
    changes = [*SURE, *(part for setting in settings for part in ("--set", setting))]
    run_alone(world, *changes, "--set", "weight_decay=0.1", "--name", "alone")
    run_ranks(world, 2, *changes, "--set", "weight_decay=0.1")
    assert_same_training(world, "run", "alone")


@pytest.mark.slow
def test_killed_processes_go_on_with_the_losses_of_undisturbed_ones(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=12)
    run_ranks(world, 2, "--name", "undisturbed")
    killed = start_ranks(train_command(world), 2)
    wait_for_epochs(world, killed, 2)
    for process in killed:
        process.send_signal(signal.SIGKILL)
    finish(killed)
    run_ranks(world, 2)
    for kind in ("train", "val"):
        assert logged(world, kind) == logged(world, kind, "undisturbed")
    files = [tmp_path / "runs" / name / "last.safetensors" for name in ("run", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_one_alone_goes_on(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=30)
    stopped = start_ranks(train_command(world, *SURE), 2)
    wait_for_epochs(world, stopped, 1)
    stopped[1].send_signal(signal.SIGTERM)
    codes, errors = finish(stopped)
    assert codes == [75, 75], errors
    assert 0 < len(logged(world, "val")) < 30
    run_alone(world, *SURE)
    run_alone(world, *SURE, "--name", "alone")
    assert_same_training(world, "run", "alone")


@pytest.mark.slow
def test_torchrun_trains_and_one_process_writes(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", *COMMAND[1:], *train_command(world)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done in") == 1
    assert [line["epoch"] for line in logged(world, "val")] == [1, 2]


@pytest.mark.slow
def test_more_processes_than_a_batch_has_examples_are_refused(tmp_path: Path) -> None:
    ranks = start_ranks(train_command(make_world(tmp_path), "--set", "batch_size=1"), 2)
    codes, errors = finish(ranks)
    assert codes == [2, 2]
    assert "2 processes would share batches of 1" in errors[0]
