"""Interruptions of training: a second command on the same run, and kills while it starts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.helpers import logged, make_world, train_command

ZYGOTE = """
import json, os, signal, sys, time
import epalm.train.cli, epalm.train.run_training, transformers
from typer.testing import CliRunner
for line in sys.stdin:
    arguments, seconds = json.loads(line)
    child = os.fork()
    if not child:
        result = CliRunner().invoke(epalm.train.cli.app, arguments)
        print(result.output, result.exception, file=sys.stderr, flush=True)
        os._exit(1 if result.exception else 0)
    until, ended = time.monotonic() + seconds, 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
"""Imports once, then starts one training after the other, and kills it after its time."""

LONG = 300
"""Seconds in which every training here ends."""


def train_and_kill(started: "list[tuple[list[str], float]]") -> list[int]:
    """The exit code of each command, -9 for one that was killed after the given seconds."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ZYGOTE],
        input="".join(json.dumps(one) + "\n" for one in started),
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    codes = [int(word) for word in done.stdout.split()]
    assert set(codes) <= {0, -signal.SIGKILL}, done.stderr
    return codes


@pytest.mark.parametrize(
    "kills", [4, pytest.param(30, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_a_training_killed_again_and_again_in_its_first_second_ends_as_an_undisturbed_one(
    tmp_path: Path, kills: int
) -> None:
    world = make_world(tmp_path, epochs=3)
    killed = [(train_command(world), (number + 1) / kills) for number in range(kills)]
    whole = [(train_command(world), LONG), (train_command(world, "--name", "undisturbed"), LONG)]
    codes = train_and_kill([*killed, *whole])
    assert -signal.SIGKILL in codes
    assert codes[kills:] == [0, 0]
    runs = world.root / "runs"
    assert {path.name for path in runs.iterdir()} == {"run", "undisturbed"}
    for kind in ("train", "val"):
        assert logged(world, kind) == logged(world, kind, "undisturbed")
    adapters = [(runs / name / "adapter.safetensors") for name in ("run", "undisturbed")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


@pytest.mark.slow
def test_of_two_trainings_in_one_folder_the_second_is_refused_in_one_line(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=4000)
    command = [sys.executable, "-m", "epalm.train.cli"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen([*command, *train_command(world)], **pipes)
    log = world.root / "runs" / "run" / "metrics.jsonl"
    try:
        while not log.is_file():
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        for extra in ([], ["--fresh"]):
            second = subprocess.run(
                [*command, *train_command(world, *extra)], capture_output=True, text=True
            )
            assert second.returncode == 1
            (line,) = second.stderr.strip().splitlines()
            assert f"runs/run is in use by process {first.pid} on " in line
    finally:
        first.kill()
        first.communicate()
    lines = [json.loads(line) for line in log.read_text().splitlines()[:-1]]
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == list(range(10, 10 * len(steps) + 1, 10))
