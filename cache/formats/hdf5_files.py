"""What the HDF5 library itself writes and reads of an HDF5 store."""

import io
import math
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import h5py
import numpy as np

from epalm.cache.spec import StoreSpec

ALIGNMENT = 4096
"""Datasets of a shard begin at multiples of a page, so that rows can be read without the cache."""

LIBRARY_VERSIONS = ("earliest", "v110")
"""Oldest file format that has virtual datasets (HDF5 1.10)."""


class ShardHead(NamedTuple):
    """A shard's file up to its vectors, and where `valid` lies in it."""

    data: bytes
    valid_offset: int


def front_file(spec: StoreSpec, keys: Sequence[str], files: Sequence[str]) -> bytes:
    """The file in front of the shards: keys, and virtual datasets over all shards.

    Args:
        spec: of the store.
        keys: the key of every row.
        files: the file of every shard, relative to this one.
    """
    cls = h5py.VirtualLayout(shape=spec.shape, dtype=spec.dtype)
    valid = h5py.VirtualLayout(shape=(spec.count,), dtype=bool)
    for shard, file in enumerate(files):
        rows = spec.rows_of(shard)
        shape = (len(rows), *spec.row_shape)
        cls[rows.start : rows.stop] = h5py.VirtualSource(file, "cls", shape=shape)
        valid[rows.start : rows.stop] = h5py.VirtualSource(file, "valid", shape=shape[:1])
    for layout in (cls, valid):
        layout.dcpl.set_obj_track_times(False)  # equal stores are to have equal bytes
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBRARY_VERSIONS) as front:
        front.create_virtual_dataset("cls", cls, fillvalue=math.nan)
        front.create_virtual_dataset("valid", valid, fillvalue=False)
        front.create_dataset("keys", data=list(keys), dtype=h5py.string_dtype())
        # h5py takes no subclass of str, as names from the command line are.
        front.attrs["dataset"], front.attrs["encoder"] = str(spec.dataset), str(spec.encoder)
        front.attrs["layers"] = spec.layers
    return image.getvalue()


def stored_keys(front_file: bytes, count: int) -> list[str]:
    """The key of every row, from the file in front of the shards.

    Args:
        front_file: all of it.
        count: number of rows.

    Raises:
        ValueError: `keys` is no plain array of so many texts. HDF5 could have it be the content of
            any other file, or unpack to any size.
    """
    with h5py.File(io.BytesIO(front_file), "r") as front:
        link = front.get("keys", getlink=True)
        if not isinstance(link, h5py.HardLink) or not isinstance(front["keys"], h5py.Dataset):
            raise ValueError("keys is no dataset of this file")
        keys = front["keys"]
        layout = keys.id.get_create_plist()
        plain = not (keys.is_virtual or keys.external) and layout.get_nfilters() == 0
        if not plain or keys.shape != (count,) or h5py.check_string_dtype(keys.dtype) is None:
            raise ValueError(f"keys is no plain array of {count} texts")
        return [str(key) for key in keys.asstr()[:]]


@lru_cache(maxsize=4)
def shard_head(rows: int, row_shape: tuple[int, int, int], dtype: str) -> ShardHead:
    """Everything of a shard's file but its vectors, with no row valid."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_obj_track_times(False)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # the vectors' place is reserved, ...
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # ... and nothing is written to it
    with tempfile.TemporaryFile() as scratch:
        with h5py.File(
            scratch,
            "w",
            libver=LIBRARY_VERSIONS,
            alignment_threshold=1,
            alignment_interval=ALIGNMENT,
        ) as file:
            valid = file.create_dataset("valid", data=np.zeros(rows, dtype=bool))
            space = h5py.h5s.create_simple((rows, *row_shape))
            number = h5py.h5t.py_create(np.dtype(dtype))
            cls = h5py.h5d.create(file.id, b"cls", number, space, plan)
            start, size, flags = cls.get_offset(), cls.get_storage_size(), valid.id.get_offset()
        if start + size != scratch.seek(0, io.SEEK_END):
            raise RuntimeError("this HDF5 library puts something behind the vectors of a shard")
        scratch.seek(0)
        return ShardHead(scratch.read(start), flags)
