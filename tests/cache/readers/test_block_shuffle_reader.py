"""The block-shuffle reader: what it reads, when, and how much memory it uses."""

import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.readers.disk_readers import ShardFiles
from epalm.cache.readers.epoch_order import BLOCK_ROWS, ShuffleSpec
from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.open_reader import StoreSubset, index_store, select_subset
from epalm.cache.readers.reader_choice import Budget, choose_reader
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.fsspec_storage import FsspecStorage
from epalm.errors import StoreError

COUNT = 4096


def make_subset(
    folder: Path | str, *, views: int = 1, width: int = 32, shard_rows: int = 1024
) -> StoreSubset:
    spec = StoreSpec(
        "coco", "vit", {}, layers=(0,), width=width, count=COUNT, views=views, shard_rows=shard_rows
    )
    store = create_store(f"{folder}/s.zarr", spec, [str(row) for row in range(COUNT)])
    values = np.random.default_rng(0).normal(size=(shard_rows, *spec.row_shape)).astype(np.float16)
    for shard in store.missing_shards():
        store.write_shard(shard, values, {})
    store.finish()
    return select_subset(store, index_store(store))


def plan_of(order: ShuffleSpec, rows: np.ndarray, *, views: int = 1, start: int = 0) -> ReadPlan:
    rest = order.draw(rows, np.random.default_rng(0)).after(start)
    return ReadPlan(rows[rest.examples], rows[rest.examples] % views, rest.pool_ends)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(first view index, number of views) of every read."""
    calls: list[tuple[int, int]] = []
    original, lock = ShardFiles.read, threading.Lock()

    def record_read(self: ShardFiles, first: int, into: memoryview) -> None:
        with lock:
            calls.append((first, len(into) // self.view_bytes))
        original(self, first, into)

    monkeypatch.setattr(ShardFiles, "read", record_read)
    return calls


def test_an_epoch_reads_each_block_once_and_whole(
    tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    rows = np.repeat(np.arange(COUNT), 2)
    source = make_subset(tmp_path).open("stream", 10**6)
    served = sum(
        len(batch) for batch in source.stream(plan_of(ShuffleSpec("blocks", 20), rows), 64)
    )
    assert served == 2 * COUNT
    assert sorted(reads) == [(first, BLOCK_ROWS) for first in range(0, COUNT, BLOCK_ROWS)]


def test_only_the_picked_views_are_read(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    rows = np.arange(COUNT)
    source = make_subset(tmp_path, views=4).open("stream", 10**6)
    for _ in source.stream(plan_of(ShuffleSpec("blocks", 20), rows, views=4), 64):
        pass
    indices = [first + step for first, count in reads for step in range(count)]
    assert sorted(indices) == (4 * rows + rows % 4).tolist()


def test_a_resumed_epoch_reads_no_row_that_was_served(
    tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    plan = plan_of(ShuffleSpec("blocks", 20), np.arange(COUNT), start=3000)
    source = make_subset(tmp_path).open("stream", 10**6)
    assert sum(len(batch) for batch in source.stream(plan, 64)) == COUNT - 3000
    read = {first + step for first, count in reads for step in range(count)}
    assert read == set(plan.rows.tolist())


def test_the_next_pool_is_read_while_one_is_served(
    tmp_path: Path, reads: list[tuple[int, int]]
) -> None:
    order = ShuffleSpec("blocks", COUNT // BLOCK_ROWS // 4)
    batches = (
        make_subset(tmp_path).open("stream", 10**6).stream(plan_of(order, np.arange(COUNT)), 64)
    )
    next(batches)
    while len(reads) < 2 * order.pool_blocks:  # ends by the second pool, or never
        threading.Event().wait(0.001)
    assert len(reads) == 2 * order.pool_blocks


def test_memory_stays_within_the_budget(tmp_path: Path) -> None:
    budget, batch_size = 4_000_000, 64
    subset = make_subset(tmp_path, width=1024)
    requirements = subset.requirements(batch_size)
    order = choose_reader("stream", requirements, Budget(budget), readers=("stream",)).order
    plan = plan_of(order, np.arange(COUNT))
    assert requirements.nbytes > 2 * budget
    source = subset.open("stream", budget)
    source.read([str(row) for row in range(0, COUNT, 1024)])  # checks the shards, 16 MiB at a time
    tracemalloc.start()
    served = sum(len(batch) for batch in source.stream(plan, batch_size))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert served == COUNT
    assert 0.8 * budget < peak <= 1.1 * budget


def test_pools_larger_than_the_budget_are_refused(tmp_path: Path) -> None:
    source = make_subset(tmp_path).open("stream", 50_000)
    with pytest.raises(StoreError, match=r"2 pools .* 65,536 bytes, but only 50,000 are"):
        next(iter(source.stream(plan_of(ShuffleSpec("blocks", 32), np.arange(COUNT)), 64)))


def test_a_file_truncated_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    subset = make_subset(tmp_path)
    batches = subset.open("stream", 10**6).stream(
        plan_of(ShuffleSpec("blocks", 32), np.arange(COUNT)), 64
    )
    next(batches)
    for shard in subset.shards:
        with subset.store.extent(shard).path.open("r+b") as file:
            file.truncate(100)
    with pytest.raises(StoreError, match="became shorter while it was read"):
        list(batches)


def test_concurrent_and_successive_epochs_do_not_interfere(tmp_path: Path) -> None:
    subset = make_subset(tmp_path)
    source, ram = subset.open("stream", 10**6), subset.open("ram", 10**9)
    plan = plan_of(ShuffleSpec("blocks", 20), np.arange(COUNT))
    expected = [batch.copy() for batch in ram.stream(plan, 64)]
    for _ in range(2):
        for first, second, expected_batch in zip(
            source.stream(plan, 64), source.stream(plan, 64), expected, strict=True
        ):
            assert np.array_equal(first, expected_batch)
            assert np.array_equal(second, expected_batch)


def test_windows_of_a_remote_store_are_copied_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    monkeypatch.setenv("EPALM_COPIES_SIZE", "0.1MB")  # six shards of 16 kB
    subset = make_subset(f"memory:/{tmp_path}", shard_rows=256)
    copied: list[str] = []
    original = FsspecStorage.fetch

    def fetch(self: FsspecStorage, name: str, checksum: str) -> Path:
        known = {path.name for path in (tmp_path / "copies").glob("*/*")}
        path = original(self, name, checksum)
        copied.extend([name] if name.startswith("cls") and path.name not in known else [])
        return path

    monkeypatch.setattr(FsspecStorage, "fetch", fetch)
    need = subset.requirements(64)
    assert (need.window_shards, need.shard_blocks) == (3, 16)
    order = choose_reader("stream", need, Budget(10**6), readers=["stream"]).order
    plan = plan_of(order, np.arange(COUNT))
    batches = subset.open("stream", 10**6).stream(plan, 64)
    served = len(next(batches))
    assert len(set(copied)) <= 2 * 3  # of 16 shards, for two pools
    served += sum(len(batch) for batch in batches)
    assert served == COUNT
    assert len(copied) == len(set(copied)) == 16
    assert len([*(tmp_path / "copies").glob("*/[!.]*cls*")]) <= 7
