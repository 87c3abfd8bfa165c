"""The hash table of an index: the hashes of all keys in ascending order, and the row of each.

    table/hashes    uint64, little-endian
    table/rows      uint32, or uint64 in an index of 2^32 rows or more
    table/sums      per block of `BLOCK_ROWS` entries: its first hash, and the CRC-32C of its hashes
                    and of its rows

Several keys may have the same hash; their rows are ascending.
"""

from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from epalm.cache.index.index_files import damaged_index, map_file, read_file
from epalm.cache.index.index_header import IndexHeader
from epalm.cache.index.index_parts import BLOCK_ROWS
from epalm.cache.storage.checksum import extend_crc32c, size_and_checksum

SUMS = np.dtype([("first", "<u8"), ("hashes", "<u4"), ("rows", "<u4")])
"""The entry of a block in table/sums."""


def row_type(rows: int) -> DTypeLike:
    """Type of the row numbers of an index with this number of rows."""
    return "<u4" if rows < 1 << 32 else "<u8"


def table_block(hashes: NDArray[np.uint64], rows: NDArray[np.integer]) -> tuple[int, int, int]:
    """The entry of a block for `SUMS`; the arrays have the types of the files."""
    sums = (extend_crc32c(0, array.view(np.uint8)) for array in (hashes, rows))
    return (int(hashes[0]), *sums)  # type: ignore[return-value]


class HashTable:
    """The memory-mapped table; blocks are checked when they are first used."""

    def __init__(self, folder: Path, header: IndexHeader) -> None:
        """Map the table of the index in a folder.

        Raises:
            CorruptShardError: a file is missing, or has another size or checksum.
        """
        self._folder, self._count = folder, header.table_rows
        data = read_file(folder, "table/sums")
        blocks = -(-self._count // BLOCK_ROWS)
        expected = (blocks * SUMS.itemsize, header.table_crc32c)
        if size_and_checksum([data]) != expected:
            raise damaged_index(folder, "table/sums does not match its checksum")
        self._sums = np.frombuffer(data, SUMS)
        self._first = self._sums["first"].astype(np.uint64)
        self._hashes = map_file(folder, "table/hashes", "<u8", self._count)
        self._rows = map_file(folder, "table/rows", row_type(self._count), self._count)
        self._checked = np.zeros(blocks, np.bool_)

    def positions(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(keys,) position of the first entry that is not less than each hash.

        Raises:
            CorruptShardError: a block does not match its checksum.
        """
        # The first block that begins with a hash that is not less; the entry is before its second.
        blocks = np.maximum(np.searchsorted(self._first, hashes, side="left") - 1, 0)
        self._check(blocks)
        low = blocks * BLOCK_ROWS
        high = np.minimum(low + BLOCK_ROWS, self._count)
        for _ in range(BLOCK_ROWS.bit_length()):  # a binary search in the checked blocks alone
            middle = (low + high) // 2
            values = self._hashes[np.minimum(middle, self._count - 1)]
            less = (values < hashes) & (low < high)
            low, high = np.where(less, middle + 1, low), np.where(less, high, middle)
        return low.astype(np.int64)

    def entries(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hash and row at each position; a position after the last entry has hash 0 and row -1.

        Raises:
            CorruptShardError: a block does not match its checksum, or a row does not exist.
        """
        hashes = np.zeros(len(positions), np.uint64)
        rows = np.full(len(positions), -1, np.int64)
        inside = positions < self._count
        chosen = positions[inside]
        self._check(chosen // BLOCK_ROWS)
        hashes[inside], rows[inside] = self._hashes[chosen], self._rows[chosen]
        if rows.max(initial=-1) >= self._count:
            raise damaged_index(self._folder, "table/rows has a row that does not exist")
        return hashes, rows

    def _check(self, blocks: NDArray[np.integer]) -> None:
        for block in np.unique(blocks[~self._checked[blocks]]).tolist():
            entries = slice(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)
            actual = table_block(self._hashes[entries], self._rows[entries])
            if actual != self._sums[block].tolist():
                raise damaged_index(self._folder, f"block {block} of its hash table is damaged")
            self._checked[block] = True
