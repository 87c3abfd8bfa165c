"""A feature store as one Zarr v3 group that any Zarr reader opens.

    coco_vitb16.zarr/            the Zarr group
      cls/    (N, V, L, D)       shards of `shard_rows` rows, inner chunks of 64, no codec, fill NaN
      keys/   (N,) string        one chunk, written when the store is created
      valid/  (N,) bool          one chunk per shard
      epalm/                     spec.json, done/00012.json, errors.jsonl: see `epalm.cache.store`

The array metadata is written by zarr. The bytes of a shard are not: a shard without codecs is its
rows in order, then the index of its chunks, and writing that at once costs no pass over the rows.
(zarr-python would also read an existing shard back before overwriting it, even when damaged.)
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from epalm.cache.layout import Extent, Tokens, Valid, as_bytes
from epalm.cache.place import Part, Place, measure
from epalm.cache.spec import CHUNK_ROWS, StoreSpec


class ZarrLayout:
    """See the module's head."""

    private = "epalm"
    first_files = (
        "zarr.json",
        "cls/zarr.json",
        "keys/zarr.json",
        "keys/c/0",
        "valid/zarr.json",
        f"{private}/zarr.json",
    )

    def __init__(self, name: str) -> None:
        del name

    def root(self, location: str) -> str:
        """The group itself."""
        return location

    def skeleton(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """Metadata of the group and its arrays, and the chunk of the keys."""
        files: dict[str, Any] = {}
        about = {"dataset": spec.dataset, "encoder": spec.encoder, "layers": list(spec.layers)}
        group = zarr.create_group(MemoryStore(files), attributes=about)
        _create_arrays(group, spec)
        stored = group.create_array(
            "keys", shape=(spec.count,), chunks=(spec.count,), dtype="string", compressors=None
        )
        stored[:] = np.array(keys, dtype=np.dtypes.StringDType())
        group.create_group(self.private)
        return {name: files[name].to_bytes() for name in self.first_files}

    def encode(
        self, spec: StoreSpec, shard: int, *, tokens: Tokens, valid: Valid
    ) -> dict[str, list[Part]]:
        """The shard of `cls`, padded with NaN to its full rows, and the chunk of `valid`."""
        absent = spec.shard_rows - len(valid)
        padding = np.full((absent, *spec.row_shape), math.nan, dtype=spec.dtype)
        index = _shard_index(spec.shard_rows // CHUNK_ROWS, CHUNK_ROWS * spec.row_bytes)
        present = np.pad(valid, (0, absent))
        cls, flags = self.shard_files(shard)
        return {
            cls: [as_bytes(tokens), as_bytes(padding), index],
            flags: [as_bytes(present)],
        }

    def shard_files(self, shard: int) -> tuple[str, ...]:
        """The shard of `cls` and the chunk of `valid`."""
        return f"cls/c/{shard}/0/0/0", f"valid/c/{shard}"

    def extent(self, spec: StoreSpec, shard: int) -> Extent:
        """The rows are the beginning of a shard's file."""
        del spec
        return Extent(self.shard_files(shard)[0], 0)

    def keys(self, place: Place) -> list[str]:
        """Read with zarr, from the two files of that array."""
        names = ("keys/zarr.json", "keys/c/0")
        files: Any = {name: Buffer.from_bytes(place.read(name)) for name in names}
        array = zarr.open_array(MemoryStore(files, read_only=True), path="keys", mode="r")
        return [str(key) for key in np.asarray(array[:])]


@lru_cache(maxsize=2)
def _shard_index(chunks: int, chunk_bytes: int) -> bytes:
    """The end of a shard: offset and length of each chunk as uint64, then their CRC-32C.

    Zarr specification, sharding codec 1.0, with `index_codecs` bytes (little endian) and crc32c
    and `index_location` end, which are zarr-python's defaults.
    """
    offsets: NDArray[np.uint64] = np.arange(chunks, dtype="<u8") * chunk_bytes
    table = np.stack([offsets, np.full_like(offsets, chunk_bytes)], axis=1).tobytes()
    checksum = int(measure([table])[1], 16)
    return table + checksum.to_bytes(4, "little")


def _create_arrays(group: zarr.Group, spec: StoreSpec) -> None:
    group.create_array(
        "cls",
        shape=spec.shape,
        shards=(spec.shard_rows, *spec.row_shape),
        chunks=(CHUNK_ROWS, *spec.row_shape),
        dtype=spec.dtype,
        fill_value=math.nan,
        compressors=None,
        dimension_names=("record", "view", "layer" if spec.positions == 1 else "token", "width"),
    )
    group.create_array(
        "valid",
        shape=(spec.count,),
        chunks=(spec.shard_rows,),
        dtype="bool",
        fill_value=False,
        compressors=None,
    )
