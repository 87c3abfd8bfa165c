"""A feature store as an HDF5 file that any HDF5 reader opens.

    coco_vitb16.h5               keys (N,) string; cls (N, V, L, D) and valid (N,) as virtual
                                 datasets over the shards, NaN and false where one is missing
    coco_vitb16.h5.shards/
      00012.h5                   cls (rows, V, L, D) contiguous, valid (rows,)
      spec.json done/ errors.jsonl    see `epalm.cache.store`

No file is written twice: a killed writer of a growing HDF5 file would leave one that cannot be
opened. The shards of a store differ in the bytes of two contiguous datasets alone, so that the
HDF5 library lays out one of them, in memory, and each shard is that head and its rows.
The files refer to each other by name: move both, and do not rename them.
"""

import io
import math
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import h5py
import numpy as np

from epalm.cache.layout import Extent, Tokens, Valid, as_bytes
from epalm.cache.place import Part, Place
from epalm.cache.spec import StoreSpec

ALIGNMENT = 4096
"""Datasets of a shard begin at multiples of a page, so that rows can be read without the cache."""

LIBRARY_VERSIONS = ("earliest", "v110")
"""Oldest file format that has virtual datasets (HDF5 1.10)."""


class _Head(NamedTuple):
    """A shard's file up to its vectors, and where `valid` lies in it."""

    data: bytes
    valid_offset: int


class Hdf5Layout:
    """See the module's head."""

    private = ""

    def __init__(self, name: str) -> None:
        self._front = f"../{name}"
        self.first_files = (self._front,)
        self._shards = f"{name}.shards"

    def root(self, location: str) -> str:
        """The folder of the shards, beside the file."""
        return f"{location.rstrip('/')}.shards"

    def skeleton(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """The file in front of the shards."""
        cls = h5py.VirtualLayout(shape=spec.shape, dtype=spec.dtype)
        valid = h5py.VirtualLayout(shape=(spec.count,), dtype=bool)
        for shard in range(spec.shards):
            rows = spec.rows_of(shard)
            file = f"{self._shards}/{_shard_file(shard)}"
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
            front.attrs["dataset"], front.attrs["encoder"] = spec.dataset, spec.encoder
            front.attrs["layers"] = spec.layers
        return {self._front: image.getvalue()}

    def encode(
        self, spec: StoreSpec, shard: int, *, tokens: Tokens, valid: Valid
    ) -> dict[str, list[Part]]:
        """The one file of a shard."""
        data, offset = _head(len(tokens), spec.row_shape, spec.dtype)
        head: list[Part] = [data[:offset], as_bytes(valid), data[offset + len(valid) :]]
        return {_shard_file(shard): [*head, as_bytes(tokens)]}

    def shard_files(self, shard: int) -> tuple[str, ...]:
        """One file."""
        return (_shard_file(shard),)

    def extent(self, spec: StoreSpec, shard: int) -> Extent:
        """The vectors are the end of a shard's file."""
        head = _head(len(spec.rows_of(shard)), spec.row_shape, spec.dtype)
        return Extent(_shard_file(shard), len(head.data))

    def keys(self, place: Place) -> list[str]:
        """Read with h5py from the file in front."""
        with h5py.File(io.BytesIO(place.read(self._front)), "r") as front:
            return [str(key) for key in front["keys"].asstr()[:]]


def _shard_file(shard: int) -> str:
    return f"{shard:05d}.h5"


@lru_cache(maxsize=4)
def _head(rows: int, row_shape: tuple[int, int, int], dtype: str) -> _Head:
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
        return _Head(scratch.read(start), flags)
