"""A feature store as one Zarr v3 group that any Zarr reader opens.

    coco_vitb16.zarr/            the Zarr group
      cls/    (N, V, L, D)       shards of `shard_rows` rows, inner chunks of 64, no codec, fill NaN
      keys/   (N,) string        one chunk, written when the store is created
      valid/  (N,) bool          one chunk per shard
      epalm/                     spec.json, done/00012.json, errors.jsonl: see `epalm.cache.store`

The array metadata is written by zarr (`epalm.cache.formats.zarr_metadata`), which takes half a
second to import and is left alone where vectors are only read or written. The bytes of a shard are
not: a shard without codecs is its rows in order, then the index of its chunks, and writing that at
once costs no pass over the rows. (zarr-python would also read an existing shard back before
overwriting it, even when damaged.)
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Extent, Tokens, Valid, as_bytes
from epalm.cache.spec import CHUNK_ROWS, StoreSpec
from epalm.cache.storage.storage import Part, Storage, measure


class ZarrFormat:
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

    keys_file = ("keys/c/0", 4)

    def __init__(self, name: str) -> None:
        del name

    def root(self, location: str) -> str:
        """The group itself."""
        return location

    def paths(self, location: str) -> tuple[str, ...]:
        """The group."""
        return (location.rstrip("/"),)

    def skeleton(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """Metadata of the group and its arrays, and the chunk of the keys."""
        from epalm.cache.formats.zarr_metadata import group_files

        return group_files(spec, keys, names=self.first_files, private=self.private)

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

    def keys(self, place: Storage, count: int) -> list[str]:
        """Read with zarr, from the two files of that array."""
        from epalm.cache.formats.zarr_metadata import stored_keys

        return stored_keys(place, count)


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
