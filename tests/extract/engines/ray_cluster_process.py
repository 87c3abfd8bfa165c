"""A Ray cluster of this machine for tests, with two cores and little memory."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.extract.engines.fast_encoder import GATE
from tests.repository import ROOT

START_SECONDS = 120
"""Longest time to wait for the cluster, on a busy machine."""

ATTEMPTS = 3
"""Ray gives its own processes 30 seconds to start."""


class RayCluster:
    """A running cluster.

    Attributes:
        address: what RAY_ADDRESS has to be.
        environment: variables of the commands that use it.
        mark: a variable that all of its processes have.
        gate: the file that holds encoders back, see `HeldEncoder`.
    """

    def __init__(self, address: str, environment: dict[str, str], mark: str, gate: Path) -> None:
        self.address, self.mark, self.gate = address, mark, gate
        self.environment = {**environment, "RAY_ADDRESS": address}

    def encoders(self) -> list[int]:
        """The process ids of its encoders."""
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit() and _is_encoder(folder, self.mark)
        ]


def _is_encoder(folder: Path, mark: str) -> bool:
    try:
        command = (folder / "cmdline").read_bytes()
        return (
            command.startswith(b"ray::ShardWorker")
            and mark.encode() in (folder / "environ").read_bytes()
        )
    except OSError:  # it has just ended
        return False


@contextmanager
def ray_cluster(log: Path) -> Iterator[RayCluster]:
    """A cluster of two cores, which ends with the block."""
    mark = f"EPALM_TEST_CLUSTER={uuid.uuid4()}"
    name, value = mark.split("=")
    environment = {**os.environ, name: value, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # `ray start` uses a token that it finds in ~/.ray, and programs that give an address do not.
    environment["RAY_AUTH_MODE"] = "disabled"
    environment["RAY_worker_niceness"] = "0"  # else other tests take all the time of a busy machine
    environment[GATE] = str(log.with_name("gate"))
    # The address of a cluster with a folder of its own is not noted for programs of this machine,
    # and a path of pytest's is too long for its sockets.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    for _ in range(ATTEMPTS):
        port = _free_port()
        process = _start(port, environment, log, folder)
        if _is_ready(process, port, environment):
            break
        _end(process)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"no Ray cluster has started, see {log}")
    try:
        yield RayCluster(f"127.0.0.1:{port}", environment, mark, log.with_name("gate"))
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    port: int, environment: dict[str, str], log: Path, folder: Path
) -> subprocess.Popen[bytes]:
    ray = Path(sys.executable).with_name("ray")
    with log.open("ab") as output:
        return subprocess.Popen(
            [
                *(str(ray), "start", "--head", "--block", "--num-cpus=2", f"--port={port}"),
                *("--node-ip-address=127.0.0.1", "--include-dashboard=false"),
                *("--object-store-memory=100000000", "--disable-usage-stats"),
                f"--temp-dir={folder}",
            ],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def _is_ready(process: subprocess.Popen[bytes], port: int, environment: dict[str, str]) -> bool:
    """Whether a program can connect, in time."""
    check = f"import ray; ray.init('127.0.0.1:{port}', log_to_driver=False)"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(1)
        command = [sys.executable, "-c", check]
        if not subprocess.run(command, env=environment, capture_output=True).returncode:
            return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the cluster; its processes are in the group of its first one, or its children."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
