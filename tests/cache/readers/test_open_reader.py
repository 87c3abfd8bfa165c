"""What every reader promises, and what opening one does."""

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
from epalm.cache.readers.open_reader import index_store, open_reader, open_store, select_subset
from epalm.cache.readers.reader_choice import LOCAL_READERS
from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, StoreError, UnfinishedStoreError, UnknownKeyError
from epalm.train.data.gpu_source import load_resident
from tests.cache.helpers import memory_reader

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


def opened(
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
    """A copy: readers use their buffers again."""
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
def test_a_pass_gives_each_example_its_vector_in_the_view_asked(
    store: Store, name: str, order: ShuffleSpec, start: int
) -> None:
    source = opened(store, name)
    rows = source.rows([*USABLE, *USABLE[40:90]])
    plan = make_plan(rows, order.draw(rows, np.random.default_rng(0)).after(start))
    found = served(source, plan)
    assert found.dtype == np.float16
    assert np.array_equal(found, VALUES[plan.rows, plan.views])


@each_reader
def test_a_second_pass_is_served_by_the_same_reader(store: Store, name: str) -> None:
    source = opened(store, name)
    rows = source.rows(USABLE)
    for seed in (0, 1):
        plan = make_plan(rows, ORDERS[1].draw(rows, np.random.default_rng(seed)))
        assert np.array_equal(served(source, plan, 7), VALUES[plan.rows, plan.views])


@each_reader
def test_a_pass_that_is_given_up_leaves_the_reader_usable(store: Store, name: str) -> None:
    source = opened(store, name)
    rows = source.rows(USABLE)
    plan = make_plan(rows, ORDERS[1].draw(rows, np.random.default_rng(0)))
    begun = source.stream(plan, 4)
    next(begun)
    del begun
    assert np.array_equal(served(source, plan), VALUES[plan.rows, plan.views])


@each_reader
def test_nothing_asked_is_nothing_given(store: Store, name: str) -> None:
    none = np.array([], np.intp)
    source = opened(store, name)
    assert list(source.stream(ReadPlan(none, none, none), 4)) == []
    assert source.read([]).shape == (0, 2, 4)


@each_reader
def test_records_come_by_key_in_the_order_asked(store: Store, name: str) -> None:
    found = opened(store, name).read([KEYS[149], KEYS[3], KEYS[149]], view=2)
    assert np.array_equal(plain(found), VALUES[[149, 3, 149], 2])


@each_reader
def test_rows_are_taken_into_the_memory_given(store: Store, name: str) -> None:
    make: Callable = torch.empty if name == "gpu" else np.empty
    out = make((3, 2, 4), dtype=torch.float16 if name == "gpu" else np.float16)
    rows, views = np.array([5, 149, 5]), np.array([0, 1, 2])
    opened(store, name).take(rows, views, out)
    assert np.array_equal(plain(out), VALUES[rows, views])


@each_reader
def test_a_record_that_failed_is_refused(store: Store, name: str) -> None:
    source = opened(store, name)
    assert source.valid([KEYS[BROKEN], KEYS[0]]).tolist() == [False, True]
    with pytest.raises(StoreError, match=r"70.jpg could not be encoded"):
        source.rows([KEYS[0], KEYS[BROKEN]])
    with pytest.raises(StoreError, match=r"70.jpg could not be encoded"):
        source.read([KEYS[BROKEN]])


@each_reader
def test_an_unknown_key_and_an_unknown_view_are_named(store: Store, name: str) -> None:
    source = opened(store, name)
    with pytest.raises(UnknownKeyError, match=r"first needed is 'zebra.jpg'"):
        source.read(["zebra.jpg"])
    with pytest.raises(StoreError, match=r"view 3 was requested, the \w+ has views 0 to 2"):
        source.read(KEYS[:1], view=3)


LACKS = {
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


@pytest.mark.parametrize("asked", LACKS)
def test_what_a_store_lacks_is_told_from_a_store_of_other_media(
    asked: tuple[str, tuple[str, ...]],
) -> None:
    task, keys = asked
    spec = replace(SPEC, tasks=("vqa2", "coco-caption"))
    index = KeyIndex(spec, KEYS, [], location="cache/s.zarr", task=task)
    with pytest.raises(UnknownKeyError) as found:
        index.valid(keys)
    assert str(found.value) == f"cache/s.zarr (coco, 150 samples) {LACKS[asked]}"


def test_what_is_extracted_again_is_all_of_a_manifest() -> None:
    spec = replace(SPEC, media="/data/pets/train.jsonl", tasks=("manifest",))
    with pytest.raises(UnknownKeyError, match="extract all of /data/pets, without"):
        KeyIndex(spec, KEYS, []).find(["0.jpg", "zebra.jpg"])


def damage(store: Store, shard: int) -> None:
    extent = store.extent(shard)
    raw = bytearray(extent.path.read_bytes())
    raw[extent.offset + 20] ^= 4
    extent.path.write_bytes(raw)


@each_reader
def test_no_vector_of_a_damaged_shard_is_served(store: Store, name: str) -> None:
    damage(store, 1)
    rows = np.arange(60, 70)
    plan = ReadPlan(rows, np.zeros(10, np.intp), np.array([10]))
    with pytest.raises(CorruptShardError, match="epalm-extract repair"):
        next(iter(opened(store, name).stream(plan, 4)))
    with pytest.raises(CorruptShardError, match="epalm-extract repair"):
        opened(store, name).read([KEYS[100]])


@each_reader
def test_only_the_shards_of_the_records_asked_for_are_read(store: Store, name: str) -> None:
    damage(store, 1)
    source = opened(store, name, keys=[KEYS[140], KEYS[3]])
    assert np.array_equal(plain(source.read([KEYS[140], KEYS[3]])), VALUES[[140, 3], 0])
    with pytest.raises(StoreError, match=r"100.jpg is not one of the samples that this reader"):
        source.read([KEYS[100]])


@each_reader
def test_the_blind_control_serves_partners_by_every_reader(store: Store, name: str) -> None:
    blind = ShuffledSource(opened(store, name), [USABLE], seed=0)
    rows = blind.rows(USABLE)
    plan = make_plan(rows, ORDERS[1].draw(rows, np.random.default_rng(0)))
    assert sorted(rows) == [row for row in range(COUNT) if row != BROKEN]
    assert not any(KEYS[row] == key for row, key in zip(rows, USABLE, strict=True))
    assert np.array_equal(served(blind, plan), VALUES[plan.rows, plan.views])
    assert np.array_equal(plain(blind.read(USABLE[:9])), VALUES[rows[:9], 0])


def test_shards_of_an_hdf5_store_are_found_by_several_threads_at_once() -> None:
    layout = Hdf5Format("s.h5")
    sizes = [replace(SPEC, width=width) for width in range(100, 108)]  # none is remembered
    gate = threading.Barrier(len(sizes))

    def find(spec: StoreSpec) -> int:
        gate.wait()
        return layout.extent(spec, 0).offset

    with ThreadPoolExecutor(len(sizes)) as threads:
        found = list(threads.map(find, sizes))
    assert found == [layout.extent(spec, 0).offset for spec in sizes]


def test_only_the_views_wanted_are_kept_in_memory(store: Store) -> None:
    source = open_reader(store, reader="ram", views=1)
    assert np.array_equal(source.read(USABLE), VALUES[np.delete(np.arange(COUNT), BROKEN), 0])
    with pytest.raises(StoreError, match=r"view 1 was requested, the reader has views 0 to 0"):
        source.read(KEYS[:1], view=1)


@pytest.mark.parametrize(("budget", "reader"), [(10**6, "ram"), (SPEC.nbytes - 1, "pread")])
def test_vectors_lie_in_memory_if_they_fit(
    store: Store, budget: int, reader: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = open_reader(store, budget=budget)
    assert caplog.messages[-1].startswith(f"reader: {reader}, ")
    assert np.array_equal(source.read([KEYS[3]]), VALUES[[3], 0])


def test_an_unfinished_store_says_how_to_go_on(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", SPEC, KEYS)
    store.write_shard(1, VALUES[64:128], {})
    with pytest.raises(UnfinishedStoreError, match="2 of 3 shards are missing: run the same"):
        open_store(tmp_path / "s.zarr")


@pytest.fixture
def numbered() -> FeatureSource[np.ndarray]:
    """A reader whose vectors tell their rows; row 4 has failed."""
    spec = StoreSpec("coco", "vit", {}, layers=(0,), width=2, count=20, dtype="float32")
    values = np.arange(40, dtype=np.float32).reshape(20, 1, 1, 2)
    values[4] = np.nan
    return memory_reader(spec, KEYS[:20], values)


def test_the_blind_control_exchanges_within_its_groups_alone(numbered: FeatureSource) -> None:
    train = [key for key in KEYS[:12] if key != "4.jpg"]
    blind = ShuffledSource(numbered, [KEYS[:12], KEYS[12:20]], seed=0)
    found = blind.rows(train).tolist()
    assert (blind.read(train)[:, 0, 0] / 2).tolist() == found
    assert sorted(found) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert all(other != int(key.split(".")[0]) for key, other in zip(train, found, strict=True))
    assert sorted(blind.rows(KEYS[12:20])) == list(range(12, 20))
    with pytest.raises(UnknownKeyError, match=r"'20.jpg' is in no group"):
        blind.read(["20.jpg"])


def test_the_blind_control_is_the_same_for_the_same_seed(numbered: FeatureSource) -> None:
    drawn = [ShuffledSource(numbered, [KEYS[:20]], seed).rows(KEYS[5:20]) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
