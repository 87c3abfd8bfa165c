from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.index.index_builder import IndexBuilder
from epalm.cache.index.index_parts import TO_THE_END, Location
from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.maintenance import store_index
from epalm.cache.maintenance.convert import convert
from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.maintenance.store_index import index_store
from epalm.cache.records.file_state import MediaFile
from epalm.cache.records.media_table import MediaTable, describe_files
from epalm.cache.store import Store
from tests.cache.helpers import COUNT, KEYS, fill, finished_store, spec
from tests.cache.index.index_units import ODD_KEYS, build, files_of, tar_batch, unit


def no_progress(count: int, note: str = "") -> None:
    pass


def store_of(location: Path, keys: list[str], media: MediaTable) -> Store:
    store = create_store(location, spec(count=len(keys)), keys)
    for shard in range(store.spec.shards):
        rows = store.spec.rows_of(shard)
        features = np.zeros((len(rows), *store.spec.row_shape), np.float32)
        store.write_shard(shard, features, {}, media=media.take(np.arange(rows.start, rows.stop)))
    store.finish()
    return store


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_the_index_of_a_store_finds_each_of_its_keys(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_index, "PART_ROWS", 128)  # two units
    store = finished_store(tmp_path / f"s{suffix}")
    index = index_store(Store.open(store.location))
    assert index.folder == tmp_path / f"s{suffix}.index"
    assert len(index.header.units) == 2
    assert index.keys(0, COUNT) == KEYS
    order = np.random.default_rng(0).permutation(COUNT)
    assert (index.find([KEYS[row] for row in order]) == order).all()
    assert index.find(["absent"]).tolist() == [-1]
    index.check()


def test_odd_keys_are_found(tmp_path: Path) -> None:
    keys = [key for key in ODD_KEYS if key != "\ud800"]  # a store has no lone surrogates in Zarr
    store = create_store(tmp_path / "s.zarr", spec(count=len(keys)), keys)
    assert index_store(store).find(keys).tolist() == list(range(len(keys)))


def test_locations_are_those_of_the_media_tables(tmp_path: Path) -> None:
    """Files named after their key, another file, parts of a tar, a table, and nothing recorded."""
    names = ["a.jpg", "b.jpg", "odd name", "t.tar", "t.tar", "t.parquet"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    parts = [(), (), (), (512, 4), (1536, 5), (3, 0)]
    files = [
        MediaFile(str(tmp_path / name), name, *part)
        for name, part in zip(names, parts, strict=True)
    ]
    table = MediaTable.unknown(7, hashed=False)
    table.put(np.arange(6), describe_files(files, hashed=False))
    keys = ["a", "b.jpg", "c", "t/0", "t/1", "t/2", "unknown"]
    store = store_of(tmp_path / "s.zarr", keys, table)
    times = [(tmp_path / name).stat().st_mtime_ns for name in names]
    expected = [
        Location("a.jpg", size=5, mtime_ns=times[0]),
        Location("b.jpg", size=5, mtime_ns=times[1]),
        Location("odd name", size=8, mtime_ns=times[2]),
        Location("t.tar", 512, 4, size=5, mtime_ns=times[3]),
        Location("t.tar", 1536, 5, size=5, mtime_ns=times[3]),
        Location("t/2"),
        Location("unknown"),
    ]
    index = index_store(store)
    assert index.items(0, 7) == list(zip(keys, expected, strict=True))
    assert expected[0].nbytes == TO_THE_END


def test_a_copy_of_a_store_without_an_index_has_one(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "old.zarr")
    assert not (tmp_path / "old.zarr.index").exists()
    copy = convert([store], tmp_path / "new.h5", tick=no_progress)
    index = SampleIndex.open(tmp_path / "new.h5.index")
    assert index.keys(0, COUNT) == list(Store.open(copy.location).keys) == KEYS
    before = files_of(index.folder)
    convert([store], tmp_path / "new.h5", tick=no_progress)
    assert files_of(index.folder) == before


def test_the_index_of_a_dataset_with_the_same_keys_is_kept(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
    build(tmp_path / "s.zarr.index", unit("a", tar_batch("t.tar", KEYS)))
    before = files_of(tmp_path / "s.zarr.index")
    assert index_store(store).items(0, 1)[0][1].name == "t.tar"
    assert files_of(tmp_path / "s.zarr.index") == before


@pytest.mark.parametrize("keys", [KEYS[1:], [*KEYS[1:], "é/other.jpg"]], ids=["fewer", "as many"])
def test_an_index_of_other_samples_of_the_dataset_is_replaced(
    tmp_path: Path, keys: list[str]
) -> None:
    store = finished_store(tmp_path / "s.zarr")
    units = [unit("a", tar_batch("t.tar", keys))]
    IndexBuilder(tmp_path / "s.zarr.index", units, {"dataset": store.spec.dataset}).build()
    assert index_store(store).keys(0, COUNT) == KEYS
    alone = index_store(store, tmp_path / "alone")
    assert files_of(tmp_path / "s.zarr.index") == files_of(alone.folder)


def test_a_grown_store_is_indexed_with_the_rows_that_can_be_read(tmp_path: Path) -> None:
    finished_store(tmp_path / "s.zarr")
    grown, _ = open_to_extract(tmp_path / "s.zarr", spec(count=COUNT + 2), [*KEYS, "x", "y"])
    assert index_store(Store.open(grown.location)).keys(0, COUNT) == KEYS
    fill_rows = {shard: {"x": "broken"} for shard in grown.missing_shards()}
    for shard, errors in fill_rows.items():
        rows = grown.spec.rows_of(shard)
        features = np.zeros((len(rows), *grown.spec.row_shape), np.float32)
        grown.write_shard(shard, features, errors)
    grown.finish()
    index = index_store(Store.open(grown.location))
    assert index.keys(COUNT, COUNT + 2) == ["x", "y"]


def test_an_unfinished_store_is_indexed(tmp_path: Path) -> None:
    store = fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [1])
    assert len(index_store(store)) == COUNT
