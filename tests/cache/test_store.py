"""What holds for a store of either format, on a local folder and on a remote place."""

import json
import shutil
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from epalm.cache.create import create_store
from epalm.cache.spec import fit_shard_rows
from epalm.cache.store import Store
from epalm.cache.verify import repair, verify, verify_deep
from epalm.errors import CacheMismatchError, StoreError, UnfinishedStoreError, UsageError
from tests.cache.helpers import (
    BROKEN,
    COUNT,
    KEYS,
    LOCATIONS,
    contents,
    fill,
    finished,
    spec,
    tokens,
)


@pytest.fixture(params=LOCATIONS, ids=["zarr", "hdf5", "remote-zarr", "remote-hdf5"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    return str(request.param).format(tmp_path)


def other(location: str) -> str:
    return location.replace("/s.", "/other.")


def shard(store: Store, number: int) -> np.ndarray:
    rows = store.spec.rows_of(number)
    out = np.empty((len(rows), *store.spec.row_shape), store.spec.dtype)
    store.read_shard(number, out)
    return out


def in_front(path: str) -> dict[str, np.ndarray]:
    """The arrays of a local store as plain zarr or h5py shows them."""
    if path.endswith(".zarr"):
        group = zarr.open_group(path, mode="r")
        return {name: np.asarray(group[name]) for name in ("cls", "valid", "keys")}
    with h5py.File(path, "r") as file:
        return {"cls": file["cls"][:], "valid": file["valid"][:], "keys": file["keys"].asstr()[:]}


@pytest.mark.parametrize("location", LOCATIONS[:2], ids=["zarr", "hdf5"], indirect=True)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("views", [1, 3])
def test_plain_libraries_read_rows_keys_and_validity(location: str, dtype: str, views: int) -> None:
    finished(location, dtype=dtype, views=views)
    found = in_front(location)
    assert list(found["keys"]) == KEYS
    assert [KEYS[row] for row in np.flatnonzero(~found["valid"])] == [BROKEN]
    assert (found["cls"].dtype, found["cls"].shape) == (dtype, (COUNT, views, 2, 4))
    assert np.isnan(found["cls"][70]).all()
    expected = tokens(views=views).astype(dtype)
    assert np.array_equal(found["cls"][found["valid"]], expected[found["valid"]])


@pytest.mark.parametrize("location", LOCATIONS[:2], ids=["zarr", "hdf5"], indirect=True)
def test_missing_rows_are_nan_and_not_valid_to_plain_libraries(location: str) -> None:
    fill(create_store(location, spec(), KEYS), [1])
    found = in_front(location)
    assert np.isnan(found["cls"][:64]).all()
    assert not found["valid"][:64].any()
    assert np.isfinite(found["cls"][64:70]).all()
    assert found["valid"][64:70].all()


def test_a_shard_in_zarr_has_the_bytes_that_zarr_itself_writes(tmp_path: Path) -> None:
    store = finished(tmp_path / "s.zarr")
    own = zarr.create_array(
        tmp_path / "own.zarr",
        shape=(192, 1, 2, 4),
        shards=(64, 1, 2, 4),
        chunks=(64, 1, 2, 4),
        dtype="float16",
        fill_value=float("nan"),
        compressors=None,
        config={"write_empty_chunks": True},
    )
    own[:COUNT] = in_front(str(tmp_path / "s.zarr"))["cls"]
    for number in range(3):
        written = (tmp_path / f"own.zarr/c/{number}/0/0/0").read_bytes()
        assert store.place.read(f"cls/c/{number}/0/0/0") == written


def test_a_shard_in_hdf5_is_contiguous_where_the_store_says(tmp_path: Path) -> None:
    store = finished(tmp_path / "s.h5")
    for number in range(3):
        extent = store.extent(number)
        with h5py.File(extent.path, "r") as file:
            assert file["cls"].id.get_offset() == extent.offset
            assert file["cls"].chunks is None
            assert np.array_equal(file["cls"][:], shard(store, number), equal_nan=True)
            assert file["valid"][:].sum() == (63 if number == 1 else len(file["valid"]))


def test_a_shard_reads_back_as_it_was_written(location: str) -> None:
    store = finished(location)
    expected = tokens().astype(np.float16)
    expected[70] = np.nan
    for number in range(3):
        rows = store.spec.rows_of(number)
        assert np.array_equal(
            shard(store, number), expected[rows.start : rows.stop], equal_nan=True
        )


def test_a_record_that_failed_is_listed(location: str) -> None:
    store = finished(location)
    assert store.failed() == {BROKEN: "truncated"}
    listed = [
        json.loads(line) for line in store.place.read(store.name("errors.jsonl")).splitlines()
    ]
    assert listed == [{"key": BROKEN, "error": "truncated"}]


def test_an_unfinished_store_knows_what_it_misses(location: str) -> None:
    store = fill(create_store(location, spec(), KEYS), [1])
    assert Store.open(location).missing() == [0, 2]
    with pytest.raises(UnfinishedStoreError, match="still misses 2 shards"):
        store.finish()
    with pytest.raises(UnfinishedStoreError, match=r"shard 2 of .* is missing: run the same"):
        store.record(2)


def test_order_of_shards_and_writing_twice_change_no_byte(location: str) -> None:
    fill(create_store(location, spec(), KEYS), [2, 0])
    fill(create_store(location, spec(), KEYS), [0, 1]).finish()
    before = contents(Store.open(location))
    Store.open(location).delete()
    assert contents(finished(location)) == before


@pytest.mark.slow
def test_equal_stores_have_equal_bytes_at_any_time(tmp_path: Path) -> None:
    layouts = [Store.at(tmp_path / name).layout for name in ("s.zarr", "s.h5")]
    first = [layout.skeleton(spec(), KEYS) for layout in layouts]
    time.sleep(1.1)  # HDF5 can note the time in seconds
    assert [layout.skeleton(spec(), KEYS) for layout in layouts] == first


def test_writers_that_create_a_store_at_once_share_it(location: str) -> None:
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        fill(create_store(location, spec(), KEYS), [number] if number < 3 else [])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    Store.open(location).finish()
    together = contents(Store.open(location))
    Store.open(location).delete()
    assert contents(finished(location)) == together


def test_a_creation_that_was_killed_is_completed(location: str) -> None:
    store = finished(location)
    whole = contents(store)
    store.place.delete(store.layout.first_files)
    create_store(location, spec(), KEYS)
    assert contents(store) == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "vit-l16"}, "encoder is vit-b16, wanted vit-l16"),
        ({"dtype": "float32"}, "dtype is float16, wanted float32"),
        ({"views": 2}, "views is 1, wanted 2"),
        ({"layers": (1, 2)}, r"layers is \(0, 1\), wanted \(1, 2\)"),
        (
            {"fingerprint": {"weights": "bb", "preprocessing": "official"}},
            "fingerprint.weights is aa, wanted bb",
        ),
        (
            {"fingerprint": {"weights": "aa"}},
            "fingerprint.preprocessing is official, wanted absent",
        ),
    ],
)
def test_a_store_of_other_settings_is_not_reopened(
    location: str, change: dict[str, object], words: str
) -> None:
    create_store(location, spec(), KEYS)
    with pytest.raises(CacheMismatchError, match=words):
        create_store(location, spec(**change), KEYS)


def test_a_store_of_other_records_is_not_reopened(location: str) -> None:
    create_store(location, spec(), KEYS)
    with pytest.raises(CacheMismatchError, match="other records"):
        create_store(location, spec(), [*KEYS[1:], "new.jpg"])


def test_a_commit_record_of_another_store_is_refused(location: str) -> None:
    store = finished(location)
    stranger = finished(other(location), encoder="vit-l16")
    name = store.record_name(1)
    store.place.put(name, [stranger.place.read(name)])
    with pytest.raises(CacheMismatchError, match=r"00001.json was written for other settings"):
        Store.open(location).record(1)


def test_the_place_of_the_data_and_of_the_weights_may_change(location: str) -> None:
    create_store(location, spec(data_root="/old", weights="/old/w"), KEYS)
    create_store(location, spec(data_root="/new", weights="/new/w"), KEYS)


@pytest.mark.parametrize(
    ("value", "words"), [(70000.0, "magnitude 70000, float16"), (np.nan, "magnitude nan")]
)
def test_a_value_that_does_not_fit_is_refused_with_its_record(
    location: str, value: float, words: str
) -> None:
    store = create_store(location, spec(), KEYS)
    block = tokens()[:64]
    block[5, 0, 1, 2] = value
    with pytest.raises(StoreError, match=f"é/5.jpg has a value of {words}.*--dtype float32"):
        store.write(0, block, {})
    assert 0 in store.missing()


def test_the_largest_value_of_float16_is_stored(location: str) -> None:
    store = create_store(location, spec(), KEYS)
    block = tokens()[:64]
    block[5, 0, 1, 2] = 65504
    store.write(0, block, {})
    assert shard(store, 0)[5, 0, 1, 2] == 65504


@pytest.mark.parametrize("location", LOCATIONS[:2], ids=["zarr", "hdf5"], indirect=True)
def test_a_place_that_holds_something_else_is_left_alone(location: str) -> None:
    root = Path(Store.at(location).layout.root(location))
    root.mkdir()
    (root / "photo.jpg").write_text("mine")
    with pytest.raises(StoreError, match="found no feature store"):
        create_store(location, spec(), KEYS)
    with pytest.raises(StoreError, match="found no feature store"):
        Store.open(location)
    with pytest.raises(StoreError, match="deletes only feature stores"):
        Store.at(location).delete()
    assert (root / "photo.jpg").read_text() == "mine"


def test_an_hdf5_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.h5").write_text("mine")
    with pytest.raises(StoreError, match="found no feature store"):
        create_store(tmp_path / "s.h5", spec(), KEYS)
    assert (tmp_path / "s.h5").read_text() == "mine"


def test_nothing_is_found_where_nothing_is(location: str) -> None:
    with pytest.raises(StoreError, match="found nothing at"):
        Store.open(location)


def test_repeated_keys_are_refused(location: str) -> None:
    with pytest.raises(StoreError, match="149 distinct"):
        create_store(location, spec(), [KEYS[1], *KEYS[1:]])


@pytest.mark.parametrize("location", LOCATIONS[:2], ids=["zarr", "hdf5"], indirect=True)
def test_what_a_killed_writer_left_is_harmless_and_swept_at_the_end(location: str) -> None:
    whole = contents(finished(location))
    store = Store.open(location)
    root = Path(store.layout.root(location))
    left = root / store.name("put") / "half"
    left.parent.mkdir()
    left.write_bytes(b"half a shard")
    assert contents(store) == whole
    store.finish()
    assert not left.parent.exists()


def test_an_hdf5_store_under_another_name_is_refused_and_harms_no_other(tmp_path: Path) -> None:
    finished(tmp_path / "a.h5")
    shutil.copytree(tmp_path / "a.h5.shards", tmp_path / "b.h5.shards")
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    for command in (Store.open, lambda path: list(verify(Store.at(path)))):
        with pytest.raises(StoreError, match=r"b.h5 was made under another name \(\.\./a.h5\)"):
            command(tmp_path / "b.h5")
    with pytest.raises(StoreError, match="under another name"):
        repair(Store.at(tmp_path / "b.h5"))
    assert (tmp_path / "a.h5").is_file()


def test_a_zarr_store_may_be_renamed(tmp_path: Path) -> None:
    finished(tmp_path / "a.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
    assert list(verify_deep(Store.open(tmp_path / "b.zarr"))) == []


def test_a_deleted_store_is_gone(location: str) -> None:
    store = finished(location)
    store.delete()
    assert not store.place.names("")
    assert all(store.place.size(name) is None for name in store.layout.first_files)


@pytest.mark.parametrize(
    ("path", "store_format", "words"),
    [
        ("cache/coco", None, "ends in none of .zarr, .h5, .hdf5"),
        ("cache/coco.zarr", "hdf5", "does not go with a store that ends in .zarr"),
        ("cache/coco.zarr", "parquet", "ends in .zarr"),
        ("cache/coco", "parquet", "store format"),
    ],
)
def test_a_format_that_cannot_be_told_is_a_usage_error(
    path: str, store_format: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Store.at(path, store_format)


def test_shards_are_few_for_a_small_store_and_bounded_for_a_large_one() -> None:
    row = 6 * 768 * 2
    assert fit_shard_rows(123_287, row) == 8192
    assert fit_shard_rows(7000, row) == 896
    assert fit_shard_rows(300, row) == 320
    assert fit_shard_rows(1, row) == 64
    assert fit_shard_rows(400_000_000, row) == 32768
    assert fit_shard_rows(123_287, 8 * row) * 8 * row <= 320_000_000
