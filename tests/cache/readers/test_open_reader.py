"""What all readers have in common, and how a store is opened."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from epalm.cache.create_store import create_store
from epalm.cache.formats.hdf5_format import Hdf5Format
from epalm.cache.readers.epoch_order import EpochOrder, ShuffleSpec
from epalm.cache.readers.feature_source import FeatureSource, KeyIndex, ReadPlan
from epalm.cache.readers.open_reader import (
    index_store,
    open_reader,
    open_store,
    select_subset,
    shuffle_window,
)
from epalm.cache.readers.reader_choice import LOCAL_READERS
from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, StoreError, UnfinishedStoreError, UnknownKeyError
from epalm.train.data.gpu_source import load_resident

COUNT, VIEWS = 150, 3
KEYS = [f"{row}.jpg" for row in range(COUNT)]
BROKEN = 70
SPEC = StoreSpec("coco", "vit", {}, layers=(0, 1), width=4, count=COUNT, views=VIEWS, shard_rows=64)
VALUES = np.random.default_rng(0).normal(size=SPEC.shape).astype(np.float16)
USABLE = [key for key in KEYS if key != f"{BROKEN}.jpg"]

READERS = ("gpu", *LOCAL_READERS)
ORDERS = (ShuffleSpec(), ShuffleSpec("blocks", 3))


def make_store(folder: Path, name: str) -> Store:
    store = create_store(folder / name, SPEC, KEYS)
    for shard in store.missing_shards():
        rows = SPEC.rows_of(shard)
        errors = {f"{BROKEN}.jpg": "truncated"} if BROKEN in rows else {}
        store.write_shard(shard, VALUES[rows.start : rows.stop], errors)
    store.finish()
    return store


def open_with(
    store: Store, name: str, keys: list[str] | None = None
) -> "FeatureSource[np.ndarray] | FeatureSource[torch.Tensor]":
    selection = select_subset(store, index_store(store), keys=keys)
    if name == "gpu":
        return load_resident(selection, "cpu")
    return selection.open(name, budget=10**6)


@pytest.fixture(params=["s.zarr", "s.h5"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    return make_store(tmp_path, request.param)


each_reader = pytest.mark.parametrize("name", READERS)


def plain(block: np.ndarray | torch.Tensor) -> np.ndarray:
    """A copy, since readers reuse their buffers."""
    return torch.as_tensor(block).numpy().copy()


def served(source: FeatureSource, plan: ReadPlan, batch_size: int = 16) -> np.ndarray:
    batches = [plain(batch) for batch in source.stream(plan, batch_size)]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    return np.concatenate(batches)


def make_plan(rows: np.ndarray, drawn: EpochOrder) -> ReadPlan:
    views = np.random.default_rng(1).integers(0, VIEWS, COUNT)
    return ReadPlan(rows[drawn.examples], views[rows[drawn.examples]], drawn.pool_ends)


@each_reader
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("start", [0, 37])
def test_a_stream_serves_the_planned_rows_and_views_in_order(
    store: Store, name: str, order: ShuffleSpec, start: int
) -> None:
    source = open_with(store, name)
    rows = source.rows([*USABLE, *USABLE[40:90]])
    plan = make_plan(rows, order.draw(rows, np.random.default_rng(0)).after(start))
    actual = served(source, plan)
    assert actual.dtype == np.float16
    assert np.array_equal(actual, VALUES[plan.rows, plan.views])


@each_reader
def test_a_reader_serves_a_second_epoch(store: Store, name: str) -> None:
    source = open_with(store, name)
    rows = source.rows(USABLE)
    for seed in (0, 1):
        plan = make_plan(rows, ORDERS[1].draw(rows, np.random.default_rng(seed)))
        assert np.array_equal(served(source, plan, 7), VALUES[plan.rows, plan.views])


@each_reader
def test_an_abandoned_stream_leaves_the_reader_usable(store: Store, name: str) -> None:
    source = open_with(store, name)
    rows = source.rows(USABLE)
    plan = make_plan(rows, ORDERS[1].draw(rows, np.random.default_rng(0)))
    stream = source.stream(plan, 4)
    next(stream)
    del stream
    assert np.array_equal(served(source, plan), VALUES[plan.rows, plan.views])


@each_reader
def test_an_empty_plan_and_an_empty_list_of_keys_give_nothing(store: Store, name: str) -> None:
    none = np.array([], np.intp)
    source = open_with(store, name)
    assert list(source.stream(ReadPlan(none, none, none), 4)) == []
    assert source.read([]).shape == (0, 2, 4)


@each_reader
def test_read_returns_features_in_the_order_of_the_keys(store: Store, name: str) -> None:
    actual = open_with(store, name).read([KEYS[149], KEYS[3], KEYS[149]], view=2)
    assert np.array_equal(plain(actual), VALUES[[149, 3, 149], 2])


@each_reader
def test_take_fills_the_given_memory(store: Store, name: str) -> None:
    make: Callable = torch.empty if name == "gpu" else np.empty
    out = make((3, 2, 4), dtype=torch.float16 if name == "gpu" else np.float16)
    rows, views = np.array([5, 149, 5]), np.array([0, 1, 2])
    open_with(store, name).take(rows, views, out)
    assert np.array_equal(plain(out), VALUES[rows, views])


@each_reader
def test_a_failed_sample_is_refused(store: Store, name: str) -> None:
    source = open_with(store, name)
    assert source.valid([KEYS[BROKEN], KEYS[0]]).tolist() == [False, True]
    with pytest.raises(StoreError, match=r"70.jpg could not be encoded"):
        source.rows([KEYS[0], KEYS[BROKEN]])
    with pytest.raises(StoreError, match=r"70.jpg could not be encoded"):
        source.read([KEYS[BROKEN]])


@each_reader
def test_an_unknown_key_and_an_unknown_view_are_named(store: Store, name: str) -> None:
    source = open_with(store, name)
    with pytest.raises(UnknownKeyError, match=r"first needed is 'zebra.jpg'"):
        source.read(["zebra.jpg"])
    with pytest.raises(StoreError, match=r"view 3 was requested, the \w+ has views 0 to 2"):
        source.read(KEYS[:1], view=3)


MISSING_KEY_MESSAGES = {
    ("coco-caption", ("zebra.jpg", "0.jpg", "owl.jpg", "owl.jpg")): (
        "lacks 2 of the 3 samples of task coco-caption, the first is 'zebra.jpg': "
        "extract all of coco, without --limit"
    ),
    ("vqa2", ("zebra.jpg",)): (
        "has no features for the 1 sample of task vqa2; the first needed is 'zebra.jpg', the "
        "store's first is '0.jpg': choose the store of that dataset with --features, or if it was "
        "extracted with --limit, extract all of coco, without --limit"
    ),
    ("gqa", ("zebra.jpg",)): (
        "has no features for the 1 sample of task gqa; the first needed is 'zebra.jpg', the "
        "store's first is '0.jpg': choose the store of that dataset with --features, or choose a "
        "task for the store's dataset with --task vqa2"
    ),
}


@pytest.mark.parametrize("task_and_keys", MISSING_KEY_MESSAGES)
def test_the_message_tells_a_truncated_store_from_one_of_another_dataset(
    task_and_keys: tuple[str, tuple[str, ...]],
) -> None:
    task, keys = task_and_keys
    spec = replace(SPEC, tasks=("vqa2", "coco-caption"))
    index = KeyIndex(spec, KEYS, [], location="cache/s.zarr", task=task)
    with pytest.raises(UnknownKeyError) as actual:
        index.valid(keys)
    assert (
        str(actual.value)
        == f"cache/s.zarr (coco, 150 samples) {MISSING_KEY_MESSAGES[task_and_keys]}"
    )


def test_the_message_names_the_folder_of_a_manifest() -> None:
    spec = replace(SPEC, media="/data/pets/train.jsonl", tasks=("manifest",))
    with pytest.raises(UnknownKeyError, match="extract all of /data/pets, without"):
        KeyIndex(spec, KEYS, []).find(["0.jpg", "zebra.jpg"])


def damage(store: Store, shard: int) -> None:
    extent = store.extent(shard)
    raw = bytearray(extent.path.read_bytes())
    raw[extent.offset + 20] ^= 4
    extent.path.write_bytes(raw)


@each_reader
def test_no_row_of_a_damaged_shard_is_served(store: Store, name: str) -> None:
    damage(store, 1)
    rows = np.arange(60, 70)
    plan = ReadPlan(rows, np.zeros(10, np.intp), np.array([10]))
    with pytest.raises(CorruptShardError, match="epalm-extract repair"):
        list(open_with(store, name).stream(plan, 4))  # the first batch is of shard 0 alone
    with pytest.raises(CorruptShardError, match="epalm-extract repair"):
        open_with(store, name).read([KEYS[100]])


@each_reader
def test_only_the_shards_of_the_selected_samples_are_read(store: Store, name: str) -> None:
    damage(store, 1)
    source = open_with(store, name, keys=[KEYS[140], KEYS[3]])
    assert np.array_equal(plain(source.read([KEYS[140], KEYS[3]])), VALUES[[140, 3], 0])
    with pytest.raises(StoreError, match=r"100.jpg is not one of the samples that this reader"):
        source.read([KEYS[100]])


@each_reader
def test_the_blind_control_works_with_every_reader(store: Store, name: str) -> None:
    blind = ShuffledSource(open_with(store, name), [USABLE], seed=0)
    rows = blind.rows(USABLE)
    plan = make_plan(rows, ORDERS[1].draw(rows, np.random.default_rng(0)))
    assert sorted(rows) == [row for row in range(COUNT) if row != BROKEN]
    assert not any(KEYS[row] == key for row, key in zip(rows, USABLE, strict=True))
    assert np.array_equal(served(blind, plan), VALUES[plan.rows, plan.views])
    assert np.array_equal(plain(blind.read(USABLE[:9])), VALUES[rows[:9], 0])


def test_several_threads_compute_hdf5_extents_at_once() -> None:
    hdf5 = Hdf5Format("s.h5")
    sizes = [replace(SPEC, width=width) for width in range(100, 108)]  # none is in the cache
    gate = threading.Barrier(len(sizes))

    def find(spec: StoreSpec) -> int:
        gate.wait()
        return hdf5.extent(spec, 0).offset

    with ThreadPoolExecutor(len(sizes)) as threads:
        actual = list(threads.map(find, sizes))
    assert actual == [hdf5.extent(spec, 0).offset for spec in sizes]


def test_only_the_selected_views_are_kept_in_memory(store: Store) -> None:
    source = open_reader(store, reader="ram", views=1)
    assert np.array_equal(source.read(USABLE), VALUES[np.delete(np.arange(COUNT), BROKEN), 0])
    with pytest.raises(StoreError, match=r"view 1 was requested, the reader has views 0 to 0"):
        source.read(KEYS[:1], view=1)


@pytest.mark.parametrize(("budget", "reader"), [(10**6, "ram"), (SPEC.nbytes - 1, "pread")])
def test_features_are_read_into_memory_if_they_fit(
    store: Store, budget: int, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = open_reader(store, budget=budget)
    assert caplog.messages[-1].startswith(f"reader: {reader}, ")
    assert np.array_equal(source.read([KEYS[3]]), VALUES[[3], 0])


def test_the_limit_of_local_copies_does_not_concern_a_store_on_the_local_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, "s.zarr")
    subset = select_subset(store, index_store(store))
    monkeypatch.setenv("EPALM_COPIES_SIZE", "20GB")
    window = shuffle_window([subset], row_bytes=302 * 10**6 // 64, shards=3052)
    assert window == {"window_shards": 211, "shard_blocks": 4}
    without = shuffle_window([subset], row_bytes=302 * 10**6 // 64, shards=100)
    assert without == {"window_shards": 0, "shard_blocks": 0}


def test_an_unfinished_store_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", SPEC, KEYS)
    store.write_shard(1, VALUES[64:128], {})
    with pytest.raises(UnfinishedStoreError, match="2 of 3 shards are missing: run the same"):
        open_store(tmp_path / "s.zarr")
