"""Each format: what its library reads, where the bytes are, how stores are named."""

import json
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from epalm.cache.create_store import create_store
from epalm.cache.formats.generations import Generations
from epalm.cache.formats.store_format import parts_of
from epalm.cache.formats.zarr_format import ZarrFormat
from epalm.cache.maintenance.verify import repair, verify, verify_deep
from epalm.cache.store import Store
from epalm.errors import StoreError, UsageError
from tests.cache.helpers import (
    BROKEN,
    COUNT,
    KEYS,
    LOCATIONS,
    fill,
    finished_store,
    random_features,
    spec,
)


@pytest.fixture(params=LOCATIONS[:2], ids=["zarr", "hdf5"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def read_arrays(path: str) -> dict[str, np.ndarray]:
    """The arrays of a local store, read with zarr or h5py alone."""
    if path.endswith(".zarr"):
        group = zarr.open_group(path, mode="r")
        return {name: np.asarray(group[name]) for name in ("cls", "valid", "keys")}
    with h5py.File(path, "r") as file:
        return {"cls": file["cls"][:], "valid": file["valid"][:], "keys": file["keys"].asstr()[:]}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("views", [1, 3])
def test_zarr_and_h5py_read_features_keys_and_valid(location: str, dtype: str, views: int) -> None:
    finished_store(location, dtype=dtype, views=views)
    actual = read_arrays(location)
    assert list(actual["keys"]) == KEYS
    assert [KEYS[row] for row in np.flatnonzero(~actual["valid"])] == [BROKEN]
    assert (actual["cls"].dtype, actual["cls"].shape) == (dtype, (COUNT, views, 2, 4))
    assert np.isnan(actual["cls"][70]).all()
    expected = random_features(views=views).astype(dtype)
    assert np.array_equal(actual["cls"][actual["valid"]], expected[actual["valid"]])


def test_missing_rows_are_nan_and_not_valid_in_zarr_and_h5py(location: str) -> None:
    fill(create_store(location, spec(), KEYS), [1])
    actual = read_arrays(location)
    assert np.isnan(actual["cls"][:64]).all()
    assert not actual["valid"][:64].any()
    assert np.isfinite(actual["cls"][64:70]).all()
    assert actual["valid"][64:70].all()


def test_the_keys_of_two_generations_in_sequence_are_in_different_files() -> None:
    names = []
    for latest in range(4):
        grown = Generations(64, tuple(range(147, 148 + latest)), ("",) * (latest + 1))
        files = ZarrFormat("s.zarr").encode_initial_files(spec(), KEYS, grown)
        names.append(next(name for name in files if name.startswith("keys/c")))
        metadata = json.loads(b"".join(parts_of(files["keys/zarr.json"])))
        separator = metadata["chunk_key_encoding"]["configuration"]["separator"]
        assert names[-1] == f"keys/c{separator}0"
    assert names == ["keys/c/0", "keys/c.0", "keys/c/0", "keys/c.0"]


def test_a_zarr_shard_has_the_bytes_that_zarr_writes(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
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
    own[:COUNT] = read_arrays(str(tmp_path / "s.zarr"))["cls"]
    for number in range(3):
        written = (tmp_path / f"own.zarr/c/{number}/0/0/0").read_bytes()
        assert store.storage.read(f"cls/c/{number}/0/0/0") == written


def test_an_hdf5_shard_is_contiguous_at_the_extent_of_the_store(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.h5")
    for number in range(3):
        extent = store.extent(number)
        with h5py.File(extent.path, "r") as file:
            assert file["cls"].id.get_offset() == extent.offset
            assert file["cls"].chunks is None
            assert np.array_equal(file["cls"][:], store.load_shard(number), equal_nan=True)
            assert file["valid"][:].sum() == (63 if number == 1 else len(file["valid"]))


@pytest.mark.slow
def test_stores_created_at_different_times_have_equal_bytes(tmp_path: Path) -> None:
    formats = [Store.at(tmp_path / name).format for name in ("s.zarr", "s.h5")]
    first = [store_format.encode_initial_files(spec(), KEYS) for store_format in formats]
    time.sleep(1.1)  # HDF5 can note the time in seconds
    assert [store_format.encode_initial_files(spec(), KEYS) for store_format in formats] == first


def test_an_hdf5_file_that_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.h5").write_text("mine")
    with pytest.raises(StoreError, match="found no feature store"):
        create_store(tmp_path / "s.h5", spec(), KEYS)
    assert (tmp_path / "s.h5").read_text() == "mine"


def test_a_renamed_copy_of_an_hdf5_store_is_refused_and_the_original_kept(
    tmp_path: Path,
) -> None:
    finished_store(tmp_path / "a.h5")
    shutil.copytree(tmp_path / "a.h5.shards", tmp_path / "b.h5.shards")
    shutil.copy(tmp_path / "a.h5", tmp_path / "b.h5")
    for command in (Store.open, lambda path: list(verify(Store.at(path)))):
        with pytest.raises(StoreError, match=r"b.h5 was created under another name \(\.\./a.h5\)"):
            command(tmp_path / "b.h5")
    with pytest.raises(StoreError, match="under another name"):
        repair(Store.at(tmp_path / "b.h5"))
    assert (tmp_path / "a.h5").is_file()


def test_a_zarr_store_may_be_renamed(tmp_path: Path) -> None:
    finished_store(tmp_path / "a.zarr")
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
def test_an_unknown_or_contradictory_format_is_a_usage_error(
    path: str, store_format: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Store.at(path, store_format)
