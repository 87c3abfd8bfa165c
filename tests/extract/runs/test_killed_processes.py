"""Processes that extract into one store are killed at random moments; the store is complete.

Each process is a fork of this one that runs the real extraction with an encoder of a few
arithmetic operations, so that a kill lands in encoding, in writing or between them alike.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.storage.local_storage import PUT_FOLDER
from epalm.cache.store import Store
from epalm.errors import EpalmError
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.run_extraction import extract
from tests.cache.helpers import file_contents
from tests.extract.helpers import CountingEncoder, counting_store, numbered

ITEMS = numbered(64 * 9 + 5, broken=[3, 200, 570])
OPTIONS = RunOptions(batch_size=32, workers=0, quiet=True)
BATCH_SECONDS = 0.004
"""Time for encoding a batch, about the same as for writing a shard."""

LONGEST_LIFE = 0.15
"""Seconds after which the last process of a round is killed."""


class SlowEncoder(CountingEncoder):
    def blocks(
        self, batch: torch.Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[torch.Tensor]:
        time.sleep(BATCH_SECONDS)
        return super().blocks(batch, layers=layers, positions=positions)


def start(work: Callable[[], None]) -> int:
    """Run `work` in a fork and return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except EpalmError:
        os._exit(1)
    os._exit(0)


def extraction(path: Path, process_shard: ProcessShard) -> Callable[[], None]:
    def run() -> None:
        store = counting_store(path, ITEMS)
        extract(SlowEncoder(), ITEMS, store, options=OPTIONS, process_shard=process_shard)

    return run


def undisturbed(path: Path) -> dict[str, bytes]:
    store = counting_store(path, ITEMS)
    extract(CountingEncoder(), ITEMS, store, options=OPTIONS)
    return file_contents(store)


class Watch:
    """Observes a store and checks that committed shards do not change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: dict[str, tuple[int, int]] = {}
        self.interrupted = 0

    def check(self) -> None:
        store = Store.at(self.path)
        if not store.exists():
            return
        root = Path(store.format.root(str(self.path)))
        self.interrupted += any((root / store.private_name(PUT_FOLDER)).glob("*"))
        committed = set(range(store.spec.shards)) - set(store.missing_shards())
        for shard in committed:
            for name in store.commit_record(shard).files:
                state = (root / name).stat()
                actual = (state.st_ino, state.st_mtime_ns)
                assert self.seen.setdefault(name, actual) == actual, f"{name} was made again"
        bad = [problem for problem in verify_deep(store) if problem.name in self.seen]
        assert not bad


@contextmanager
def reaped(children: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def drill_round(path: Path, chance: random.Random) -> int:
    """Run one to four processes and kill those that do not end before; return the number killed."""
    count = chance.randint(1, 4)
    children = [start(extraction(path, ProcessShard(index, count))) for index in range(count)]
    killed = 0
    deadlines = {child: time.monotonic() + chance.uniform(0, LONGEST_LIFE) for child in children}
    with reaped(children):
        while children:
            time.sleep(0.001)
            for child in list(children):
                if time.monotonic() > deadlines[child]:
                    os.kill(child, signal.SIGKILL)
                if ended := os.waitpid(child, os.WNOHANG)[0]:
                    children.remove(ended)
                    killed += time.monotonic() > deadlines[child]
    return killed


def drill(folder: Path, name: str, *, kills: int, seed: int) -> int:
    """Kill a number of processes, over as many stores as necessary.

    Returns:
        The rounds after which a file was found half-written.
    """
    chance = random.Random(seed)
    whole = undisturbed(folder / "undisturbed" / name)
    killed = number = interrupted = 0
    while killed < kills:
        path = folder / str(number) / name
        watch = Watch(path)
        while not Store.at(path).exists() or Store.at(path).missing_shards():
            killed += drill_round(path, chance)
            watch.check()
        store = counting_store(path, ITEMS)
        report = extract(CountingEncoder(), ITEMS, store, options=OPTIONS)
        watch.check()
        assert (report.encoded, report.missing, report.failed) == (0, 0, 3)
        assert file_contents(store) == whole
        number += 1
        interrupted += watch.interrupted
    return interrupted


pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_killed_processes_lose_nothing(tmp_path: Path, name: str) -> None:
    drill(tmp_path, name, kills=5, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_hundred_killed_processes_lose_nothing(tmp_path: Path, name: str) -> None:
    assert drill(tmp_path, name, kills=100, seed=1), "no kill landed within a write"
