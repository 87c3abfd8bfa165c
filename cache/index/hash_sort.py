"""Build the hash table of an index by an external bucket sort, and find repeated keys with it.

The hashes of all parts are divided into buckets by their highest bits, in temporary files. A bucket
is then sorted in memory. Memory does not depend on the number of rows, except for the repeated keys
that are found.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.hash_table import SUMS, row_type, table_block
from epalm.cache.index.index_parts import BLOCK_ROWS
from epalm.cache.storage.checksum import size_and_checksum

BUCKET_ROWS = 1 << 20
"""Rows of a bucket, about; sorting one takes 60 MB."""

MAX_BUCKETS = 1024
"""Most temporary files."""

ENTRY = np.dtype([("hash", "<u8"), ("row", "<u8")])
"""An entry of a bucket."""


class BucketSort:
    """The buckets of one index, in a folder that the caller deletes."""

    def __init__(self, folder: Path, rows: int) -> None:
        """Create the files.

        Args:
            folder: an empty folder.
            rows: number of rows of the index.
        """
        count = max(rows // BUCKET_ROWS, 1)
        self._bits = min(count.bit_length(), MAX_BUCKETS.bit_length() - 1)
        self._paths = [folder / f"{number:04d}" for number in range(1 << self._bits)]

    def fill(self, parts: Iterator[NDArray[np.uint64]]) -> None:
        """Distribute the hashes of all rows, part by part.

        Raises:
            OSError: the disk is full.
        """
        files = [path.open("xb", buffering=0) for path in self._paths]
        try:
            first_row = 0
            for hashes in parts:
                self._add(files, hashes, first_row)
                first_row += len(hashes)
        finally:
            for file in files:
                file.close()

    def _add(self, files: Sequence[BinaryIO], hashes: NDArray[np.uint64], first_row: int) -> None:
        entries = np.empty(len(hashes), ENTRY)
        entries["hash"] = hashes
        entries["row"] = np.arange(first_row, first_row + len(hashes))
        # A shift by 64 bits is undefined, and one bucket needs none.
        buckets = hashes >> np.uint64(64 - self._bits) if self._bits else np.zeros_like(hashes)
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets.astype(np.int64), minlength=len(files)))
        entries = entries[order]
        for file, start, end in zip(files, [0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            if end > start:
                file.write(entries[start:end].tobytes())

    def sorted(self) -> Iterator[NDArray[np.void]]:
        """The entries in the order of hash and row, bucket by bucket."""
        for path in self._paths:
            entries = np.fromfile(path, ENTRY)
            if len(entries):
                yield entries[np.argsort(entries["hash"], kind="stable")]


def equal_runs(entries: NDArray[np.void]) -> Iterator[list[int]]:
    """The rows of each run of entries of the same hash; entries with a hash of their own have none.

    Args:
        entries: sorted entries of a bucket.
    """
    hashes = entries["hash"]
    same = np.concatenate([[False], hashes[1:] == hashes[:-1], [False]])
    starts = np.flatnonzero(~same[:-1] & same[1:])
    ends = np.flatnonzero(same[:-1] & ~same[1:]) + 1
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield entries["row"][start:end].tolist()


class TableWriter:
    """Writes table/hashes and table/rows block by block under temporary names."""

    def __init__(self, hashes: BinaryIO, rows: BinaryIO, count: int) -> None:
        """Write nothing yet.

        Args:
            hashes: file of the hashes.
            rows: file of the rows.
            count: number of entries.
        """
        self._hashes, self._rows = hashes, rows
        self._row_type = row_type(count)
        self._rest = np.empty(0, ENTRY)
        self._sums: list[tuple[int, int, int]] = []

    def add(self, entries: NDArray[np.void]) -> None:
        """Add sorted entries that follow those before."""
        entries = np.concatenate([self._rest, entries])
        whole = len(entries) - len(entries) % BLOCK_ROWS
        self._write(entries[:whole])
        self._rest = entries[whole:]

    def finish(self) -> tuple[bytes, str]:
        """Write the last block; the content of table/sums and its checksum."""
        self._write(self._rest)
        sums = np.array(self._sums, SUMS).tobytes()
        return sums, size_and_checksum([sums])[1]

    def _write(self, entries: NDArray[np.void]) -> None:
        hashes = np.ascontiguousarray(entries["hash"])
        rows = entries["row"].astype(self._row_type)
        for start in range(0, len(entries), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            self._sums.append(table_block(hashes[block], rows[block]))
        self._hashes.write(hashes.tobytes())
        self._rows.write(rows.tobytes())
