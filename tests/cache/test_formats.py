"""What is particular to a format: what its own library sees, where bytes lie, how it is named."""

import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from epalm.cache.create_store import create_store
from epalm.cache.spec import fit_shard_rows
from epalm.cache.store import Store
from epalm.cache.verify import repair, verify, verify_deep
from epalm.errors import StoreError, UsageError
from tests.cache.helpers import BROKEN, COUNT, KEYS, LOCATIONS, fill, finished, shard, spec, tokens


@pytest.fixture(params=LOCATIONS[:2], ids=["zarr", "hdf5"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def in_front(path: str) -> dict[str, np.ndarray]:
    """The arrays of a local store as plain zarr or h5py shows them."""
    if path.endswith(".zarr"):
        group = zarr.open_group(path, mode="r")
        return {name: np.asarray(group[name]) for name in ("cls", "valid", "keys")}
    with h5py.File(path, "r") as file:
        return {"cls": file["cls"][:], "valid": file["valid"][:], "keys": file["keys"].asstr()[:]}


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
        assert store.storage.read(f"cls/c/{number}/0/0/0") == written


def test_a_shard_in_hdf5_is_contiguous_where_the_store_says(tmp_path: Path) -> None:
    store = finished(tmp_path / "s.h5")
    for number in range(3):
        extent = store.extent(number)
        with h5py.File(extent.path, "r") as file:
            assert file["cls"].id.get_offset() == extent.offset
            assert file["cls"].chunks is None
            assert np.array_equal(file["cls"][:], shard(store, number), equal_nan=True)
            assert file["valid"][:].sum() == (63 if number == 1 else len(file["valid"]))


@pytest.mark.slow
def test_equal_stores_have_equal_bytes_at_any_time(tmp_path: Path) -> None:
    layouts = [Store.at(tmp_path / name).format for name in ("s.zarr", "s.h5")]
    first = [layout.encode_initial_files(spec(), KEYS) for layout in layouts]
    time.sleep(1.1)  # HDF5 can note the time in seconds
    assert [layout.encode_initial_files(spec(), KEYS) for layout in layouts] == first


def test_an_hdf5_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.h5").write_text("mine")
    with pytest.raises(StoreError, match="found no feature store"):
        create_store(tmp_path / "s.h5", spec(), KEYS)
    assert (tmp_path / "s.h5").read_text() == "mine"


def test_an_hdf5_store_under_another_name_is_refused_and_harms_no_other(tmp_path: Path) -> None:
    finished(tmp_path / "a.h5")
    shutil.copytree(tmp_path / "a.h5.shards", tmp_path / "b.h5.shards")
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    for command in (Store.open, lambda path: list(verify(Store.at(path)))):
        with pytest.raises(StoreError, match=r"b.h5 was created under another name \(\.\./a.h5\)"):
            command(tmp_path / "b.h5")
    with pytest.raises(StoreError, match="under another name"):
        repair(Store.at(tmp_path / "b.h5"))
    assert (tmp_path / "a.h5").is_file()


def test_a_zarr_store_may_be_renamed(tmp_path: Path) -> None:
    finished(tmp_path / "a.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
    assert list(verify_deep(Store.open(tmp_path / "b.zarr"))) == []


@pytest.mark.parametrize(
    ("path", "store_format", "words"),
    [
        ("cache/coco", None, "ends in none of .zarr, .h5, .hdf5"),
        ("cache/coco.zarr", "hdf5", "hdf5 contradicts the suffix .zarr"),
        ("cache/coco.zarr", "parquet", "contradicts the suffix .zarr"),
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
    for row_bytes in (8 * row, 197 * 768 * 2, 6 * 197 * 768 * 2, 5_000_000):
        assert 0 < fit_shard_rows(123_287, row_bytes) * row_bytes <= 320_000_000


def test_a_record_of_which_no_chunk_fits_into_a_shard_is_refused() -> None:
    with pytest.raises(StoreError, match=r"5\.0 MB.*--source-layers"):
        fit_shard_rows(100, 5_000_001)
