"""`epalm-extract --engine ray` on a Ray cluster of two encoders, whose processes are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from epalm.cache.store import Store
from epalm.extract.engines import ray_run
from epalm.extract.fill_store import run_options
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.plugins import TypedName
from tests.cache.helpers import file_contents
from tests.extract.engines.fast_encoder import HELD_NUMBER
from tests.extract.engines.number_files import write_numbers
from tests.extract.engines.ray_cluster_process import RayCluster, ray_cluster
from tests.repository import ROOT

ray = pytest.importorskip("ray", reason="needs the extra `ray`")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COUNT = 8 * 512 - 100
"""Samples of the dataset, in eight shards."""

FREE = 5
"""Number of shards that the encoders finish while they are held back."""

ENCODER = "tests.extract.engines.fast_encoder:held"

SECONDS = 240.0
"""Longest time that a step may take on a busy machine."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    with ray_cluster(tmp_path_factory.mktemp("cluster") / "log.txt") as running:
        yield running


@pytest.fixture
def gate(cluster: RayCluster) -> Iterator[Path]:
    """A file that holds encoders back in front of the last three shards until it is removed."""
    cluster.gate.touch()
    yield cluster.gate
    cluster.gate.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def number(row: int) -> int:
        return row % HELD_NUMBER + (HELD_NUMBER if row >= FREE * 512 else 0)

    folder = tmp_path_factory.mktemp("numbers")
    return write_numbers(folder, COUNT, broken=700, number=number)


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a store that one process has filled."""
    out = tmp_path_factory.mktemp("one") / "s.zarr"
    filled = run_options(options(dataset, out))
    assert filled.store.spec.shards == 8
    return file_contents(filled.store)


def options(dataset: Path, out: Path, *, engine: str = "") -> ExtractOptions:
    return ExtractOptions(
        encoder=TypedName(ENCODER),
        dataset=str(dataset),
        out=str(out),
        engine=engine,
        workers=1,
        device="cpu",
        quiet=True,
    )


def start(cluster: RayCluster, dataset: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    script = "import sys; from epalm.extract.cli import main; sys.argv[0] = 'epalm-extract'; main()"
    return subprocess.Popen(
        [
            *(sys.executable, "-c", script, *words, "--encoder", ENCODER, "--out", str(out)),
            *("--dataset", str(dataset), "--workers", "1", "--device", "cpu"),
        ],
        cwd=ROOT,
        env=cluster.environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until_held(command: subprocess.Popen[str], out: Path) -> None:
    """Wait until all shards but the last three are finished."""
    deadline = time.monotonic() + SECONDS
    while not Store.at(out).exists() or len(Store.open(out).missing_shards()) > 8 - FREE:
        assert command.poll() is None, command.communicate()
        assert time.monotonic() < deadline, f"{out} did not get {FREE} shards in time"
        time.sleep(0.05)
    assert Store.open(out).missing_shards() == list(range(FREE, 8))


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error of a command."""
    _, err = process.communicate(timeout=SECONDS)
    return process.returncode, err


def test_killed_encoders_are_replaced(
    cluster: RayCluster,
    dataset: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    gate: Path,
) -> None:
    out = tmp_path / "s.zarr"
    command = start(cluster, dataset, out, "--engine", "ray")
    wait_until_held(command, out)
    victims = cluster.encoders()
    assert victims
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    gate.unlink()
    code, err = ended(command)
    assert code == 3, err  # one sample cannot be decoded
    assert "an encoder was lost" in err
    assert file_contents(Store.open(out)) == undisturbed


def test_a_killed_actor_is_replaced(
    cluster: RayCluster,
    dataset: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    gate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = []
    show = ray_run.RayRun._show

    def kill_once(self: ray_run.RayRun, tick: object) -> None:
        held = [worker for worker in self.workers.all if max(worker.shards, default=0) >= FREE]
        if held and not killed:
            killed.append(held[0])
            ray.kill(held[0].actor)
            gate.unlink()
        show(self, tick)  # type: ignore[arg-type]

    monkeypatch.setattr(ray_run.RayRun, "_show", kill_once)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    monkeypatch.chdir(ROOT)
    filled = run_options(options(dataset, tmp_path / "s.zarr", engine="ray"))
    assert killed
    assert file_contents(filled.store) == undisturbed
    assert (filled.report.encoded, filled.report.failed) == (COUNT, 1)


def test_a_killed_program_is_resumed_by_the_same_command(
    cluster: RayCluster,
    dataset: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    gate: Path,
) -> None:
    out = tmp_path / "s.zarr"
    command = start(cluster, dataset, out, "--engine", "ray")
    wait_until_held(command, out)
    command.kill()
    command.communicate()
    deadline = time.monotonic() + SECONDS
    while cluster.encoders():
        assert time.monotonic() < deadline, "encoders outlive their program"
        time.sleep(0.2)
    assert Store.open(out).missing_shards() == list(range(FREE, 8))
    gate.unlink()
    code, err = ended(start(cluster, dataset, out, "--engine", "ray"))
    assert code == 3, err
    assert file_contents(Store.open(out)) == undisturbed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_the_same_command_resumes(
    cluster: RayCluster,
    dataset: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    gate: Path,
    number: signal.Signals,
) -> None:
    out = tmp_path / "s.zarr"
    command = start(cluster, dataset, out, "--engine", "ray")
    wait_until_held(command, out)
    command.send_signal(number)
    code, err = ended(command)
    assert code == 75, err
    assert "run the same command again to resume" in err
    assert Store.open(out).missing_shards() == list(range(FREE, 8))
    gate.unlink()
    code, err = ended(start(cluster, dataset, out, "--engine", "ray"))
    assert code == 3, err
    assert file_contents(Store.open(out)) == undisturbed


def test_half_by_a_shell_and_half_by_ray_is_the_same_store(
    cluster: RayCluster, dataset: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    out = tmp_path / "s.zarr"
    code, err = ended(start(cluster, dataset, out, "--shard", "0/2"))
    assert code == 0, err
    assert Store.open(out).missing_shards() == [1, 3, 5, 7]
    code, err = ended(start(cluster, dataset, out, "--engine", "ray"))
    assert code == 3, err
    assert file_contents(Store.open(out)) == undisturbed
