"""The benchmarks of engines count every process, and tell fixed costs from those of an image."""

import os
import subprocess
import sys

import pytest

from bench import engines
from bench.support.cpu_time import cpu_seconds, descendants

BURN = "import time\nwhile time.process_time() < 0.3: pass"

ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN!r}])"
"""A program that ends before the process that it has started."""


def test_processes_that_outlive_their_command_are_counted() -> None:
    assert cpu_seconds([[sys.executable, "-c", ORPHAN]] * 2) >= 0.6


def test_children_of_a_process_that_ignores_them_are_counted() -> None:
    parent = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        f"subprocess.Popen([sys.executable, '-c', {BURN.replace('0.3', '1')!r}]); time.sleep(4)"
    )
    assert cpu_seconds([[sys.executable, "-c", parent]]) >= 0.7


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        cpu_seconds([[sys.executable, "-c", "raise SystemExit(3)"], [sys.executable, "-c", ""]])


def test_a_process_and_its_children_are_found() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        found = descendants(os.getpid())
        assert found[child.pid].name == "sleep"
        assert os.getpid() in found
        child.kill()


def test_the_cost_of_an_image_is_told_from_that_of_a_run() -> None:
    found = {
        (engines.SHARDS, 100): [12.0, 10.0, 11.0],  # 10 s and 10 ms an image
        (engines.SHARDS, 300): [13.0],
        (engines.RAY, 100): [31.2],  # 30 s and 12 ms an image
        (engines.RAY, 300): [33.6],
    }
    lines = {line.what: line for line in engines.table(found, [300, 100])}
    assert lines[f"{engines.SHARDS}: CPU time of an image"].value == pytest.approx(10)
    assert lines[f"{engines.SHARDS}: CPU time of a run without images"].value == pytest.approx(10)
    assert lines[f"{engines.RAY}: CPU time of an image"].value == pytest.approx(12)
    assert lines["overhead of Ray for an image"].value == pytest.approx(0.2)
    assert lines["overhead of Ray for an image"].met is False
