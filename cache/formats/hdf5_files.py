"""The parts of an HDF5 store that the HDF5 library writes and reads."""

import io
import math
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import h5py
import numpy as np

from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.spec import StoreSpec

ALIGNMENT = 4096
"""Datasets of a shard begin at multiples of a page, so that rows can be read
without the page cache."""

LIBRARY_VERSIONS = ("earliest", "v110")
"""Oldest file format with virtual datasets (HDF5 1.10)."""


KEYS_READ = 1 << 16
"""Keys that are read at a time."""


class ShardHeader(NamedTuple):
    """The bytes of a shard's file before its features.

    Attributes:
        data: the bytes.
        valid_offset: offset of the dataset `valid` in them.
    """

    data: bytes
    valid_offset: int


def encode_main_file(spec: StoreSpec, keys: Sequence[str], files: Sequence[str]) -> bytes:
    """Content of the main file: keys, and virtual datasets over all shards.

    Args:
        spec: spec of the store.
        keys: the key of every row.
        files: path of every shard's file, relative to the main file.
    """
    cls = h5py.VirtualLayout(shape=spec.shape, dtype=spec.dtype)
    valid = h5py.VirtualLayout(shape=(spec.count,), dtype=bool)
    for shard, file in enumerate(files):
        rows = spec.rows_of(shard)
        shape = (len(rows), *spec.row_shape)
        cls[rows.start : rows.stop] = h5py.VirtualSource(file, "cls", shape=shape)
        valid[rows.start : rows.stop] = h5py.VirtualSource(file, "valid", shape=shape[:1])
    for layout in (cls, valid):
        layout.dcpl.set_obj_track_times(False)  # equal stores must have equal bytes
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBRARY_VERSIONS) as main:
        main.create_virtual_dataset("cls", cls, fillvalue=math.nan)
        main.create_virtual_dataset("valid", valid, fillvalue=False)
        main.create_dataset("keys", data=list(keys), dtype=h5py.string_dtype())
        # h5py accepts no subclass of str; names from the command line are one
        main.attrs["dataset"], main.attrs["encoder"] = str(spec.dataset), str(spec.encoder)
        main.attrs["layers"] = spec.layers
    return image.getvalue()


def read_keys(main_file: bytes, count: int) -> PackedKeys:
    """The key of every row, from the main file.

    Args:
        main_file: content of the main file.
        count: number of rows.

    Raises:
        ValueError: `keys` is not a plain array of `count` strings. In a file from somebody else it
            could be a link to any other file, or decompress to any size.
    """
    with h5py.File(io.BytesIO(main_file), "r") as main:
        link = main.get("keys", getlink=True)
        if not isinstance(link, h5py.HardLink) or not isinstance(main["keys"], h5py.Dataset):
            raise ValueError("keys is not a dataset of this file")
        keys = main["keys"]
        filters = keys.id.get_create_plist().get_nfilters()
        plain = not (keys.is_virtual or keys.external or filters)
        if not plain or keys.shape != (count,) or h5py.check_string_dtype(keys.dtype) is None:
            raise ValueError(f"keys is not a plain array of {count} strings")
        texts, starts = keys.asstr(), range(0, count, KEYS_READ)
        return PackedKeys.joined([*texts[start : start + KEYS_READ]] for start in starts)


@lru_cache(maxsize=4)
def shard_header(rows: int, row_shape: tuple[int, int, int], dtype: str) -> ShardHeader:
    """The bytes of a shard's file before its features, with `valid` all False."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_obj_track_times(False)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # reserve space for the features ...
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # ... and write nothing to it
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
            cls = h5py.h5d.create(file.id, b"cls", number, space, properties)
            start, size, flags = cls.get_offset(), cls.get_storage_size(), valid.id.get_offset()
        if start + size != scratch.seek(0, io.SEEK_END):
            raise RuntimeError("this HDF5 library writes data after the features of a shard")
        scratch.seek(0)
        return ShardHeader(scratch.read(start), flags)
