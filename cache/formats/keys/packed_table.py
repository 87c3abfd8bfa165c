"""Look up keys in packed keys with eight bytes per key, and no Python object for any of them."""

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.keys.packed_keys import PackedKeys, TableEntries
from epalm.cache.formats.keys.vlen_offsets import LENGTH_BYTES

HASHED_ROWS = 1 << 19
"""Keys that are hashed at a time."""

FOUND_KEYS = 1 << 18
"""Keys that are looked up at a time."""

_WORD = 8


class _Hash:
    """The hash of a key in a table of a number of rows."""

    def __init__(self, count: int, seed: int) -> None:
        self._seed = np.uint64(seed)
        self.row_mask = (np.uint64(1) << np.uint64(max(count - 1, 1).bit_length())) - np.uint64(1)
        """The bits of an entry that are the row."""

    def __call__(self, keys: PackedKeys, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """(B,) hash of each key, with zeros in place of its lower bits."""
        starts, lengths = _spans(keys, rows)
        hashes = lengths.astype(np.uint64) ^ self._seed
        for number in range(-(-int(lengths.max(initial=0)) // _WORD)):
            inside = np.flatnonzero(lengths > number * _WORD)
            words = _words(keys.data, starts[inside], lengths[inside], number)
            hashes[inside] = _mix(hashes[inside] ^ words)
        return _mix(hashes) & ~self.row_mask


def make_entries(keys: PackedKeys, values: NDArray[np.uint64]) -> TableEntries:
    """Hash and sort all keys, without more memory in between.

    Args:
        keys: the keys.
        values: (N,) filled with the entries.
    """
    entries = TableEntries(secrets.randbits(64), values)
    hash_keys = _Hash(len(keys), entries.seed)
    for start in range(0, len(keys), HASHED_ROWS):
        rows = np.arange(start, min(start + HASHED_ROWS, len(keys)))
        values[start : start + len(rows)] = hash_keys(keys, rows) | rows.astype(np.uint64)
    values.sort()
    return entries


class PackedTable:
    """The rows of keys by hash.

    An entry has the upper bits of the hash of a key, then its row, and entries are sorted. Keys
    whose upper bits agree are compared byte by byte. Hashes begin with a random number, so that
    nobody can make keys with equal hashes.
    """

    def __init__(self, keys: PackedKeys) -> None:
        """Use the entries that are stored with the keys, or make them: eight bytes per key."""
        self.keys = keys
        entries = keys.entries or make_entries(keys, np.empty(len(keys), np.uint64))
        self._hash = _Hash(len(keys), entries.seed)
        self._row_mask = self._hash.row_mask
        self._entries = entries.values

    def find(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """(B,) the row of each key; -1 for a key that is not there."""
        parts = [
            self._find(PackedKeys.of(keys[start : start + FOUND_KEYS]))
            for start in range(0, len(keys), FOUND_KEYS)
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _find(self, wanted: PackedKeys) -> NDArray[np.int64]:
        hashes = self._hash(wanted, np.arange(len(wanted)))
        order = np.argsort(hashes)
        positions = np.empty(len(hashes), np.intp)
        positions[order] = np.searchsorted(self._entries, hashes[order])  # ascending: near memory
        result = np.full(len(wanted), -1, np.int64)
        left = np.arange(len(wanted))
        while len(left):
            left = left[positions[left] < len(self._entries)]
            entries = self._entries[positions[left]]
            same = (entries & ~self._row_mask) == hashes[left]
            left, rows = left[same], (entries[same] & self._row_mask).astype(np.int64)
            equal = _equal(wanted, left, self.keys, rows)
            result[left[equal]] = rows[equal]
            left = left[~equal]
            positions[left] += 1
        return result


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over the word (multiply and xorshift, as in SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _words(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    number: int,
) -> NDArray[np.uint64]:
    """(B,) word of eight bytes of each key, with zeros after the end of the key.

    Args:
        data: bytes of the keys.
        starts: (B,) offset of each key.
        lengths: (B,) number of bytes of each key, more than `number` words.
        number: number of the word.
    """
    if len(data) < _WORD:
        data = np.pad(data, (0, _WORD))
    unaligned = np.lib.stride_tricks.as_strided(
        data[:_WORD].view(np.uint64), (len(data) - _WORD + 1,), (1,), writeable=False
    )
    at = starts + number * _WORD
    base = np.minimum(at, len(unaligned) - 1)  # the last word ends with the last byte
    words: NDArray[np.uint64] = unaligned[base] >> ((at - base) * 8).astype(np.uint64)
    missing = np.maximum(_WORD - (lengths - number * _WORD), 0)
    masks: NDArray[np.uint64] = np.uint64(2**64 - 1) >> (missing * 8).astype(np.uint64)
    return words & masks


def _equal(
    first: PackedKeys,
    first_rows: NDArray[np.int64],
    second: PackedKeys,
    second_rows: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(B,) whether the keys of two lists of rows are the same."""
    starts, lengths = _spans(first, first_rows)
    other_starts, other_lengths = _spans(second, second_rows)
    same: NDArray[np.bool_] = lengths == other_lengths
    for number in range(-(-int(lengths[same].max(initial=0)) // _WORD)):
        inside = np.flatnonzero(same & (lengths > number * _WORD))
        mine = _words(first.data, starts[inside], lengths[inside], number)
        same[inside] = mine == _words(second.data, other_starts[inside], lengths[inside], number)
    return same


def _spans(
    keys: PackedKeys, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(B,) offset and (B,) number of bytes of each key."""
    starts = keys.offsets[rows].astype(np.int64)
    return starts, keys.offsets[rows + 1].astype(np.int64) - starts - LENGTH_BYTES
