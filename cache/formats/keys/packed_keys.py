"""The keys of a store as one array of bytes, in place of a tuple with a Python object per key.

A tuple of 10^8 keys takes 8 GB. The bytes of a Zarr store's keys stay in their memory-mapped file,
and four bytes per key say where each begins.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.keys.vlen_offsets import HEADER_BYTES, LENGTH_BYTES, vlen_offsets

Offsets: TypeAlias = "NDArray[np.int64] | NDArray[np.uint32]"

DIGEST_ROWS = 1 << 16
"""Keys per step of a digest."""

ITERATED_ROWS = 1 << 14
"""Keys that are decoded at a time while all are iterated over."""

_PLAIN = np.zeros(256, np.bool_)
_PLAIN[0x20:0x7F] = True
_PLAIN[[ord('"'), ord("\\")]] = False
"""Bytes that the JSON text of a key has unchanged."""


class TableEntries(NamedTuple):
    """The keys by hash, see `epalm.cache.formats.keys.packed_table`.

    Attributes:
        seed: number that the hashes begin with.
        values: (N,) uint64, ascending: upper bits of the hash of a key, then its row.
    """

    seed: int
    values: NDArray[np.uint64]


class PackedKeys(Sequence[str]):
    """Keys in an array of bytes."""

    def __init__(self, data: NDArray[np.uint8], offsets: Offsets) -> None:
        """Use the arrays without a copy.

        Args:
            data: bytes of the keys in UTF-8, with `LENGTH_BYTES` other bytes before each one.
            offsets: (N + 1,) offset of the first byte of each key, and that of one after the last.
        """
        self.data = data
        self.offsets = offsets
        self.checked = False
        """Whether the bytes were compared with the checksum of their file."""
        self.entries: TableEntries | None = None
        """Entries of the look-up table if they were stored; None if they have to be made."""

    @classmethod
    def of(cls, keys: Sequence[str]) -> "PackedKeys":
        """Pack keys; a surrogate, which UTF-8 does not have, is encoded like other characters."""
        encoded = [key.encode("utf-8", "surrogatepass") for key in keys]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum(lengths + LENGTH_BYTES, out=offsets[1:])
        gap = bytes(LENGTH_BYTES)
        data = np.frombuffer(b"".join(gap + key for key in encoded), np.uint8)
        return cls(data, offsets + LENGTH_BYTES)

    @classmethod
    def packed(cls, keys: Sequence[str]) -> "PackedKeys":
        """Keys packed, unless they are already."""
        if isinstance(keys, PackedKeys):
            return keys
        starts = range(0, len(keys), ITERATED_ROWS)
        return cls.joined(keys[start : start + ITERATED_ROWS] for start in starts)

    @classmethod
    def joined(cls, blocks: Iterable[Sequence[str]]) -> "PackedKeys":
        """Pack the keys of all blocks, of which one at a time has a Python object per key."""
        packed = [cls.of(block) for block in blocks]
        sizes = [np.int64(len(part.data)) for part in packed]
        shifts = np.cumsum([np.int64(0), *sizes])
        offsets = [
            part.offsets[:-1].astype(np.int64) + shift
            for part, shift in zip(packed, shifts, strict=False)
        ]
        end = np.array([shifts[-1] + LENGTH_BYTES])
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part.data for part in packed)]),
            np.concatenate([*offsets, end]),
        )

    @classmethod
    def from_vlen(cls, chunk: NDArray[np.uint8], count: int) -> "PackedKeys":
        """The keys of a chunk of vlen-utf8; see `vlen_offsets` for the error."""
        recorded = int.from_bytes(chunk[:HEADER_BYTES].tobytes(), "little")
        if recorded != count:
            raise ValueError(f"the chunk of keys has {recorded} strings, expected {count}")
        return cls(chunk, vlen_offsets(chunk, count))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...
    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        """A key, or the keys of a slice."""
        if isinstance(at, slice):
            return tuple(self.take(range(*at.indices(len(self)))))
        row = at + len(self) if at < 0 else at
        if not 0 <= row < len(self):
            raise IndexError(f"row {at} of {len(self)}")
        return self.take((row,))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), ITERATED_ROWS):
            yield from self[start : start + ITERATED_ROWS]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The keys of some rows.

        Raises:
            UnicodeDecodeError: the bytes of one are not UTF-8.
        """
        chosen = np.asarray(rows, np.int64)
        starts = self.offsets[chosen].tolist()
        ends = (self.offsets[chosen + 1].astype(np.int64) - LENGTH_BYTES).tolist()
        view = memoryview(self.data)  # type: ignore[arg-type]
        return [
            str(view[start:end], "utf-8", "surrogatepass")
            for start, end in zip(starts, ends, strict=True)
        ]

    def digest(self, settings: bytes) -> str:
        """The digest of a store with these settings, see `StoreSpec.digest`.

        Raises:
            UnicodeDecodeError: the bytes of a key are not UTF-8.
        """
        digest = hashlib.sha256(settings)
        self.update_digest(digest)
        return digest.hexdigest()

    def update_digest(self, digest: "hashlib._Hash") -> None:
        """Add all keys to a digest of a store, see `StoreSpec.digest`.

        Raises:
            UnicodeDecodeError: the bytes of a key are not UTF-8.
        """
        for start in range(0, len(self), DIGEST_ROWS):
            digest.update(self._json_lines(start, min(start + DIGEST_ROWS, len(self))))

    def _json_lines(self, start: int, stop: int) -> bytes:
        """A line feed and the JSON text of each key from row `start` on."""
        offsets = self.offsets[start : stop + 1].astype(np.int64)
        first = int(offsets[0]) - LENGTH_BYTES
        block = np.array(self.data[first : int(offsets[-1]) - LENGTH_BYTES])
        gaps = (offsets[:-1] - offsets[0])[:, None] + np.arange(LENGTH_BYTES)
        block[gaps] = ord(" ")
        if not _PLAIN[block].all():
            texts = json.dumps(self[start:stop], separators=("\n", ":"))
            return b"\n" + texts[1:-1].encode()
        block[gaps[:, :-1]] = np.frombuffer(b'"\n"', np.uint8)  # ends a key and begins the next
        kept = np.ones(len(block), np.bool_)
        kept[gaps[:, -1]] = False
        return block[kept][1:].tobytes() + b'"'
