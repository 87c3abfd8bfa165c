"""A feature store as one Zarr v3 group, which every Zarr library can open.

    coco_vitb16.zarr/            the Zarr group
      cls/    (N, V, L, D)       shards of `shard_rows` rows, inner chunks of 64, no codec, fill NaN
      keys/   (N,) string        one chunk, written when the store is created
      valid/  (N,) bool          one chunk per shard
      epalm/                     spec.json, done/00012.json, errors.jsonl: see `epalm.cache.store`

The zarr library writes the array metadata (`epalm.cache.formats.zarr_metadata`). It takes half a
second to import, so it is not imported where features are only read or written. Shards are written
without it: a shard without codecs is its rows in order, then the index of its chunks, and writing
these bytes directly needs no extra pass over the rows. (zarr-python would also read an existing
shard before overwriting it, even a damaged one.)
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Extent, Features, Valid, as_bytes
from epalm.cache.spec import CHUNK_ROWS, StoreSpec
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.storage.storage import Storage


class ZarrFormat:
    """A Zarr group with the arrays `cls`, `keys` and `valid`, and our own files in a subgroup."""

    private = "epalm"
    initial_files = (
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

    def encode_initial_files(self, spec: StoreSpec, keys: Sequence[str]) -> dict[str, bytes]:
        """Metadata of the group and its arrays, and the chunk of the keys."""
        from epalm.cache.formats.zarr_metadata import encode_group

        return encode_group(spec, keys, names=self.initial_files, private=self.private)

    def encode_shard(
        self, spec: StoreSpec, shard: int, *, features: Features, valid: Valid
    ) -> dict[str, list[Part]]:
        """A shard of `cls`, padded with NaN to its full number of rows, and a chunk of `valid`."""
        padding_rows = spec.shard_rows - len(valid)
        padding = np.full((padding_rows, *spec.row_shape), math.nan, dtype=spec.dtype)
        index = _shard_index(spec.shard_rows // CHUNK_ROWS, CHUNK_ROWS * spec.row_bytes)
        cls_file, valid_file = self.shard_files(shard)
        return {
            cls_file: [as_bytes(features), as_bytes(padding), index],
            valid_file: [as_bytes(np.pad(valid, (0, padding_rows)))],
        }

    def shard_files(self, shard: int) -> tuple[str, ...]:
        """The shard of `cls` and the chunk of `valid`."""
        return f"cls/c/{shard}/0/0/0", f"valid/c/{shard}"

    def extent(self, spec: StoreSpec, shard: int) -> Extent:
        """The features are the first bytes of a shard's file."""
        del spec
        return Extent(self.shard_files(shard)[0], 0)

    def read_keys(self, storage: Storage, count: int) -> list[str]:
        """The key of every row, read with zarr from the two files of that array."""
        from epalm.cache.formats.zarr_metadata import read_keys

        return read_keys(storage, count)


@lru_cache(maxsize=2)
def _shard_index(chunks: int, chunk_bytes: int) -> bytes:
    """The last bytes of a shard: offset and length of each chunk as uint64, then their CRC-32C.

    Zarr specification, sharding codec 1.0, with `index_codecs` bytes (little endian) and crc32c
    and `index_location` end, which are zarr-python's defaults.
    """
    offsets: NDArray[np.uint64] = np.arange(chunks, dtype="<u8") * chunk_bytes
    table = np.stack([offsets, np.full_like(offsets, chunk_bytes)], axis=1).tobytes()
    checksum = int(size_and_checksum([table])[1], 16)
    return table + checksum.to_bytes(4, "little")
