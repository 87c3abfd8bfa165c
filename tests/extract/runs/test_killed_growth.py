"""A dataset grows at random while the processes that extract it are killed at random moments.

Each process is a fork that runs the real extraction with an encoder of a few arithmetic operations.
"""

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.maintenance.verify import MISSING, OUTDATED, verify_deep
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.extract.planning.extraction_plan import RunOptions
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.planning.store_rows import match_items
from epalm.extract.run_extraction import extract
from epalm.tasks.types import MediaItem
from tests.cache.helpers import file_contents
from tests.extract.helpers import CountingEncoder, counting_store
from tests.extract.runs.test_killed_processes import SlowEncoder, reaped, start

OPTIONS = RunOptions(batch_size=32, workers=0, quiet=True)

MOST_NEW = 45
"""Largest number of samples that a step adds; a shard has 64 rows."""

LONGEST_LIFE = 0.4
"""Seconds after which the last process of a round is killed."""

MOST_ROUNDS = 8
"""Rounds of killed processes after which a step is left to one process that is not killed."""

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def sample(number: int) -> MediaItem:
    name = "broken" if number % 97 == 5 else str(number % 500)
    return MediaItem(f"k{number}", Path(), f"{name}.png")


def run_extraction(
    path: Path, items: Sequence[MediaItem], encoder: CountingEncoder, part: ProcessShard
) -> None:
    spec = StoreSpec(
        dataset="numbers",
        encoder="counting",
        fingerprint={"code": "test"},
        layers=tuple(range(1, 7)),
        width=4,
        count=len(items),
        shard_rows=64,
    )  # as in `counting_store`
    store, _ = open_to_extract(path, spec, [item.key for item in items])
    rows = match_items(items, store.keys)
    extract(encoder, rows, store, options=OPTIONS, process_shard=part)


@dataclass
class Growth:
    """A dataset that grows, and the store that is made of it.

    Attributes:
        path: path of the store.
        chance: source of every random choice.
        expected: key -> features of every sample that there will be.
        items: samples of the dataset, in its order.
        killed: number of processes that were killed.
        unfinished: number of times that a store was checked in the middle of a growth.
    """

    path: Path
    chance: random.Random
    expected: dict[str, np.ndarray]
    items: list[MediaItem] = field(default_factory=list)
    killed: int = 0
    unfinished: int = 0

    def add_samples(self) -> None:
        first = len(self.items)
        for number in range(first, first + self.chance.randint(1, MOST_NEW)):
            self.items.insert(self.chance.randint(0, len(self.items)), sample(number))

    def listed(self) -> list[MediaItem]:
        """The dataset, sometimes without some of the samples that are in the store."""
        store = Store.at(self.path)
        present = Store.open(self.path).keys if store.exists() else ()
        gone = set(self.chance.sample(present, len(present) // 20) if present else ())
        return [item for item in self.items if item.key not in gone or self.chance.random() < 0.5]

    def round(self, items: list[MediaItem]) -> None:
        """Run one to three processes, and kill those that do not end before."""
        count = self.chance.randint(1, 3)
        parts = [ProcessShard(rank, count) for rank in range(count)]
        children = [start(partial(self.extract, items, part)) for part in parts]
        now = time.monotonic()
        deadlines = {child: now + self.chance.uniform(0, LONGEST_LIFE) for child in children}
        with reaped(children):
            while children:
                time.sleep(0.001)
                for child in list(children):
                    if time.monotonic() > deadlines[child]:
                        os.kill(child, signal.SIGKILL)
                    ended, status = os.waitpid(child, os.WNOHANG)
                    if ended:
                        children.remove(ended)
                        ok = status in (0, signal.SIGKILL)
                        assert ok, self.error_file(ended).read_text()
                        self.killed += status == signal.SIGKILL

    def extract(self, items: list[MediaItem], part: ProcessShard) -> None:
        """Run the extraction of one process; an error is written to a file."""
        try:
            run_extraction(self.path, items, SlowEncoder(), part)
        except BaseException:
            self.error_file(os.getpid()).write_text(traceback.format_exc())
            raise

    def error_file(self, process: int) -> Path:
        return self.path.with_name(f"error-{process}.txt")

    def check(self, least: int) -> int:
        """Check what readers see; the number of rows, which never gets smaller than `least`."""
        store = Store.at(self.path)
        if not store.exists():
            return 0
        assert not [i for i in verify_deep(store) if i.found not in (MISSING, OUTDATED)]
        if store.missing_shards():
            assert store.generation == 0
            return 0
        self.unfinished += store.growing > 0
        assert store.spec.count >= least
        keys, features = store.keys, [store.load_shard(n) for n in range(store.spec.shards)]
        assert_equal(np.concatenate(features), [self.expected[key] for key in keys])
        return store.spec.count

    def check_libraries(self) -> None:
        """The arrays of a finished store, as zarr and h5py read them."""
        count, (keys, cls, valid) = len(self.items), library_arrays(self.path)
        assert sorted(keys) == sorted(item.key for item in self.items)
        assert len(keys) == count
        assert_equal(cls, [self.expected[key] for key in keys])
        assert valid.tolist() == [int(key[1:]) % 97 != 5 for key in keys]


def library_arrays(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    if path.suffix == ".zarr":
        group = zarr.open_group(path, mode="r")
        read: Callable[[str], np.ndarray] = lambda name: np.asarray(group[name][:])  # type: ignore[index]  # noqa: E731
        return read("keys").tolist(), read("cls"), read("valid")
    with h5py.File(path) as main:
        return main["keys"].asstr()[:].tolist(), main["cls"][:], main["valid"][:]


def assert_equal(actual: np.ndarray, expected: Sequence[np.ndarray]) -> None:
    assert np.array_equal(actual, np.stack(expected), equal_nan=True)


def features_at_once(path: Path, items: Sequence[MediaItem]) -> dict[str, np.ndarray]:
    """Key -> features, of a store of all samples that is made without interruption."""
    store = counting_store(path, items)
    extract(CountingEncoder(), items, store, options=OPTIONS)
    features = np.concatenate([store.load_shard(shard) for shard in range(store.spec.shards)])
    return dict(zip(store.keys, features, strict=True))


def drill(folder: Path, name: str, *, steps: int, seed: int) -> Growth:
    everything = [sample(number) for number in range(steps * MOST_NEW)]
    expected = features_at_once(folder / "universe.zarr", everything)
    growth = Growth(folder / name, random.Random(seed), expected)
    finished = 0
    for step in range(steps):
        growth.add_samples()
        leave = growth.chance.random() < 0.2 and step < steps - 1
        for _ in range(growth.chance.randint(1, MOST_ROUNDS)):
            growth.round(growth.listed())
            finished = growth.check(finished)
            if finished == len(growth.items):
                break
        if not leave:
            run_extraction(growth.path, growth.items, CountingEncoder(), ProcessShard())
            finished = growth.check(finished)
            assert finished == len(growth.items)
            growth.check_libraries()
    assert_like_at_once(growth, folder)
    assert_like_uninterrupted(growth, folder)
    return growth


def assert_like_at_once(growth: Growth, folder: Path) -> None:
    """Row for row, the arrays are those of a store that was made at once, of the same rows."""
    by_key = {item.key: item for item in growth.items}
    keys, cls, valid = library_arrays(growth.path)
    at_once = folder / "at_once" / growth.path.name
    features_at_once(at_once, [by_key[key] for key in keys])
    their_keys, their_cls, their_valid = library_arrays(at_once)
    assert their_keys == keys
    assert their_cls.tobytes() == cls.tobytes()
    assert their_valid.tolist() == valid.tolist()
    failed = [Store.open(path).failed_samples() for path in (growth.path, at_once)]
    assert failed[0] == failed[1]


def assert_like_uninterrupted(growth: Growth, folder: Path) -> None:
    """Every file is that of a store that grew through the same steps without a kill."""
    store = Store.open(growth.path)
    by_key = {item.key: item for item in growth.items}
    undisturbed = folder / "undisturbed" / growth.path.name
    for count in store.generations.counts:
        items = [by_key[key] for key in store.keys[:count]]
        run_extraction(undisturbed, items, CountingEncoder(), ProcessShard())
    assert file_contents(Store.open(undisturbed)) == file_contents(store)


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_growing_store_loses_nothing_to_kills(tmp_path: Path, name: str) -> None:
    """How many processes are killed depends on the machine; the slow test asserts their number."""
    growth = drill(tmp_path, name, steps=4, seed=2)
    assert len(growth.items) == Store.open(growth.path).spec.count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_hundred_steps_of_growth_lose_nothing_to_kills(tmp_path: Path, name: str) -> None:
    growth = drill(tmp_path, name, steps=100, seed=3)
    print(f"{name}: {growth.killed} kills, {growth.unfinished} checks of unfinished growth")  # noqa: T201
    assert growth.killed >= 100
    assert growth.unfinished >= 20
