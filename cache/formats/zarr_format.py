"""A feature store as one Zarr v3 group, which every Zarr library can open.

    coco_vitb16.zarr/            the Zarr group
      cls/    (N, V, L, D)       shards of `shard_rows` rows, inner chunks of 64, no codec, fill NaN
      keys/   (N,) string        one chunk, written when the store is created or has grown
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
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.generations import Generations, ShardVersion
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.store_format import Content, Extent, Features, Valid, as_bytes
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
    earlier_files = ("keys/c/0", "keys/c.0")

    def __init__(self, name: str) -> None:
        del name

    def root(self, location: str) -> str:
        """The group itself."""
        return location

    def paths(self, location: str) -> tuple[str, ...]:
        """The group."""
        return (location.rstrip("/"),)

    def encode_initial_files(
        self, spec: StoreSpec, keys: Sequence[str], grown: Generations | None = None
    ) -> dict[str, Content]:
        """Metadata of the group and its arrays, and the chunk of the keys.

        The name of that chunk alternates from generation to generation, and the metadata give it:
        so one file, keys/zarr.json, replaces number and content of the keys together.
        """
        from epalm.cache.formats.zarr_metadata import encode_group

        separator: Literal["/", "."] = "." if grown and grown.latest % 2 else "/"
        files = encode_group(spec, keys, private=self.private, separator=separator)
        chunks_first = sorted(files, key=lambda name: name.endswith("zarr.json"))
        return {name: files[name] for name in chunks_first} if grown else files

    def encode_shard(
        self, spec: StoreSpec, shard: int, *, features: Features, valid: Valid, version: str = ""
    ) -> dict[str, list[Part]]:
        """A shard of `cls`, padded with NaN to its full number of rows, and a chunk of `valid`."""
        padding_rows = spec.shard_rows - len(valid)
        cls_file, valid_file = self.shard_files(shard, version)
        return {
            cls_file: [as_bytes(features), *_padding_and_index(spec, padding_rows)],
            valid_file: [as_bytes(np.pad(valid, (0, padding_rows)))],
        }

    def shard_files(self, shard: int, version: str = "") -> tuple[str, ...]:
        """The shard of `cls` and the chunk of `valid`; all versions have the same names."""
        del version
        return f"cls/c/{shard}/0/0/0", f"valid/c/{shard}"

    def extent(self, spec: StoreSpec, shard: int, version: ShardVersion | None = None) -> Extent:
        """The features are the first bytes of a shard's file."""
        del spec, version
        return Extent(self.shard_files(shard)[0], 0)

    def first_rows(self, spec: StoreSpec, name: str, data: bytes, *, rows: int) -> tuple[int, str]:
        """Those of the first rows and the padding that followed them."""
        padding_rows = spec.shard_rows - rows
        if name.startswith("valid/"):
            return size_and_checksum([data[:rows], bytes(padding_rows)])
        padding = _padding_and_index(spec, padding_rows)
        return size_and_checksum([data[: rows * spec.row_bytes], *padding])

    def read_keys(self, storage: Storage, count: int, checksum: str, name: str) -> PackedKeys:
        """The key of every row, from the two files of that array."""
        from epalm.cache.formats.zarr_metadata import read_keys

        return read_keys(storage, count, checksum, name)


def _padding_and_index(spec: StoreSpec, padding_rows: int) -> list[Part]:
    """What follows the rows in a shard of `cls`."""
    padding = np.full((padding_rows, *spec.row_shape), math.nan, dtype=spec.dtype)
    index = _shard_index(spec.shard_rows // CHUNK_ROWS, CHUNK_ROWS * spec.row_bytes)
    return [as_bytes(padding), index]


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
