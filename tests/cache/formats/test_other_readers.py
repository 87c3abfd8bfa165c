"""Stores, opened with the libraries that other projects read them with, and nothing of ours."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts

from tests.cache.helpers import BROKEN, COUNT, KEYS, finished_store, random_features

BROKEN_ROW = KEYS.index(BROKEN)

ZARR_READERS = {"3.1": ("zarr>=3.1.1,<3.2", "3.11"), "newest": ("zarr>=3.2", "3.12")}
"""Releases of zarr-python and the Python that they need; the project itself depends on 3.1."""

READ_WITH_ZARR = """
import sys, numpy as np, zarr
group = zarr.open(sys.argv[1], mode="r")
keys = np.asarray([str(key) for key in group["keys"][:]])
rows = group["cls"].oindex[[100, 3]]
np.savez(sys.argv[2], cls=group["cls"][:], valid=group["valid"][:], keys=keys, rows=rows)
print(zarr.__version__)
"""
"""A script that has zarr and NumPy only: it copies a store's arrays to an .npz file."""


def bits(features: np.ndarray) -> np.ndarray:
    return features.view({2: np.uint16, 4: np.uint32}[features.itemsize])


def check(cls: np.ndarray, valid: np.ndarray, dtype: str) -> None:
    """Compare what a library has read of `finished_store(views=2)` with what was written."""
    expected = random_features(views=2).astype(dtype)
    assert (cls.dtype, cls.shape) == (dtype, (COUNT, 2, 2, 4))
    assert np.flatnonzero(~valid).tolist() == [BROKEN_ROW]
    assert np.isnan(cls[BROKEN_ROW]).all()
    assert np.array_equal(bits(cls[valid]), bits(expected[valid]))


def tensorstore_array(folder: Path) -> ts.TensorStore:
    kvstore = {"driver": "file", "path": str(folder)}
    return ts.open({"driver": "zarr3", "kvstore": kvstore}, open=True).result()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_tensorstore_reads_features_and_flags(tmp_path: Path, dtype: str) -> None:
    finished_store(tmp_path / "s.zarr", dtype=dtype, views=2)
    cls = tensorstore_array(tmp_path / "s.zarr/cls")
    valid = tensorstore_array(tmp_path / "s.zarr/valid").read().result()
    check(cls.read().result(), valid, dtype)
    assert cls.domain.labels == ("record", "view", "layer", "width")
    assert cls.chunk_layout.read_chunk.shape == (64, 2, 2, 4)
    rows = cls[[149, 3, 3]].read().result()
    expected = random_features(views=2).astype(dtype)[[149, 3, 3]]
    assert np.array_equal(bits(rows), bits(expected))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_h5py_reads_features_flags_and_keys(tmp_path: Path, dtype: str) -> None:
    finished_store(tmp_path / "s.h5", dtype=dtype, views=2)
    with h5py.File(tmp_path / "s.h5", "r") as file:
        check(file["cls"][:], file["valid"][:], dtype)
        assert file["keys"].asstr()[:].tolist() == KEYS
        rows = file["cls"][[3, 149]]
    assert np.array_equal(bits(rows), bits(random_features(views=2).astype(dtype)[[3, 149]]))


@pytest.mark.slow
@pytest.mark.parametrize("release", ZARR_READERS)
def test_each_release_of_zarr_reads_features_flags_and_keys(tmp_path: Path, release: str) -> None:
    """In an environment of its own, made with uv, without this project in it."""
    finished_store(tmp_path / "s.zarr", views=2)
    script = tmp_path / "read.py"
    script.write_text(READ_WITH_ZARR)
    requirement, python = ZARR_READERS[release]
    uv = [sys.executable, "-m", "uv"]
    if subprocess.run([*uv, "python", "find", python], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no Python {python} for zarr {release}")
    run = [*uv, "run", "--quiet", "--no-project", "--python", python, "--with", requirement]
    command = [*run, "python", "-W", "error", str(script)]
    paths = [str(tmp_path / "s.zarr"), str(tmp_path / "read.npz")]
    done = subprocess.run([*command, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    major, minor = map(int, done.stdout.split(".")[:2])
    assert ((major, minor) == (3, 1)) is (release == "3.1")
    with np.load(tmp_path / "read.npz") as arrays:
        check(arrays["cls"], arrays["valid"], "float16")
        assert arrays["keys"].tolist() == KEYS
        assert np.array_equal(bits(arrays["rows"]), bits(arrays["cls"][[100, 3]]))
