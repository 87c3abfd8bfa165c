"""Several processes of `epalm-train`, as torchrun starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from epalm.model.checkpoints.validation_figures import IN_NATS
from epalm.train.cli import app
from tests.train.helpers import World, logged, train_command

COMMAND = [sys.executable, "-m", "epalm.train.cli"]
SURE = ("--set", "lm_dropout=0.0")
"""Without dropout, whose masks depend on the number of processes."""


def start_ranks(
    arguments: Sequence[str], count: int, command: Sequence[str] = COMMAND
) -> list["subprocess.Popen[str]"]:
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
        started.append(subprocess.Popen([*command, *arguments], env=environment, **pipes))
    return started


def finish(ranks: "Sequence[subprocess.Popen[str]]") -> tuple[list[int], list[str]]:
    """Exit codes, and what was written to standard error."""
    errors = [process.communicate(timeout=300)[1] for process in ranks]
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
    ours, reference = (logged(world, "train", name) for name in (left, right))
    assert [line["step"] for line in ours] == [line["step"] for line in reference]
    assert [line["loss"] for line in ours] == pytest.approx(
        [line["loss"] for line in reference], abs=1e-5
    )
    validations = (logged(world, "val", name) for name in (left, right))
    for line, expected in zip(*validations, strict=True):
        assert line == pytest.approx(expected, abs=1e-4)  # sums of batches of other sizes
        scores = [name for name in line if name not in IN_NATS]
        assert [line[name] for name in scores] == [expected[name] for name in scores]
    files = [world.root / "runs" / name / "last.safetensors" for name in (left, right)]
    weights, reference_weights = map(load_file, files)
    for name, weight in weights.items():
        assert torch.allclose(weight, reference_weights[name], atol=1e-4), name


def assert_killed_ranks_resume(world: World, *extra: str, epochs: int) -> None:
    """Kill two processes after some epochs: resumed, they train as two undisturbed ones do."""
    run_ranks(world, 2, "--name", "undisturbed", *extra)
    killed = start_ranks(train_command(world, *extra), 2)
    wait_for_epochs(world, killed, epochs)
    for process in killed:
        process.send_signal(signal.SIGKILL)
    finish(killed)
    run_ranks(world, 2, *extra)
    for kind in ("train", "val"):
        assert logged(world, kind) == logged(world, kind, "undisturbed")
    files = [world.root / "runs" / name / "last.safetensors" for name in ("run", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()
