"""Read the rows of one part of an index; blocks are checked when they are first used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.index_files import damaged_index, map_file
from epalm.cache.index.index_parts import BLOCK_ROWS, ROW, Location, PartRecord, blocks_of
from epalm.cache.index.key_lines import decode_lines
from epalm.cache.storage.checksum import extend_crc32c
from epalm.untrusted.json_values import JSON_ERRORS

SUM_DIGITS = 8
"""Hexadecimal digits of a checksum."""


class PartReader:
    """Keys and locations of a part, memory-mapped."""

    def __init__(self, folder: Path, record: PartRecord) -> None:
        """Map the files of a part.

        Args:
            folder: folder of the index.
            record: what the record of its unit says about it.

        Raises:
            CorruptShardError: a file is missing or has another size than in the record.
        """
        blocks = -(-record.rows // BLOCK_ROWS)
        sums = (record.key_sums, record.row_sums)
        if any(len(text) != blocks * SUM_DIGITS for text in sums):
            raise damaged_index(folder, f"{record.name} does not have {blocks} checksums")
        self._folder, self._record = folder, record
        self._rows = map_file(folder, f"parts/{record.name}.rows", ROW, record.rows)
        self._keys = map_file(folder, f"parts/{record.name}.keys", np.uint8, record.key_bytes)
        self._view = memoryview(self._keys)  # type: ignore[arg-type]
        self._line_starts = self._rows["key"]
        self._checked = bytearray(blocks)

    def keys(self, start: int, stop: int) -> list[str]:
        """The keys of the rows from `start` to `stop`.

        Raises:
            CorruptShardError: a block does not match its checksum.
        """
        self._check(start, stop)
        first, last = self._line(start), self._line(stop)
        try:
            keys = decode_lines(bytes(self._view[first:last]))
        except JSON_ERRORS as error:
            raise self._damaged(f"its keys are no lines of JSON ({error})") from error
        if len(keys) != stop - start:
            raise self._damaged(f"{len(keys)} keys in {stop - start} rows")
        return keys

    def locations(self, start: int, stop: int, keys: Sequence[str]) -> list[Location]:
        """The locations of the rows from `start` to `stop`.

        Args:
            start: first row.
            stop: row after the last one.
            keys: the keys of these rows.

        Raises:
            CorruptShardError: a block does not match its checksum, or a number is impossible.
        """
        self._check(start, stop)
        rows, files = self._rows[start:stop], self._record.files
        if stop > start and int(rows["file"].max()) >= len(files):
            raise self._damaged("a row has the number of a file that does not exist")
        numbers = (rows[name].tolist() for name in ("file", "first", "second"))
        return [
            files[number].location(key, first, second)
            for key, number, first, second in zip(keys, *numbers, strict=True)
        ]

    def rows(self, start: int, stop: int) -> NDArray[np.void]:
        """The records of the rows from `start` to `stop`, see `ROW`; errors as in `keys`."""
        self._check(start, stop)
        return self._rows[start:stop]

    def matches(self, row: int, line: bytes) -> bool:
        """Whether the key of a row has this JSON text.

        Raises:
            CorruptShardError: the block of the row does not match its checksum.
        """
        if not self._checked[row // BLOCK_ROWS]:
            self._check(row, row + 1)
        start = int(self._line_starts[row])
        end = start + len(line)  # the line feed comes after a text of the same length
        return self._view[start : end + 1] == line + b"\n"

    def line_offset(self, row: int) -> int:
        """Offset in the keys at which the line of a row begins; that of the end after the last."""
        self._check(row, min(row + 1, self._record.rows))
        return self._line(row)

    def _line(self, row: int) -> int:
        return int(self._line_starts[row]) if row < self._record.rows else self._record.key_bytes

    def _check(self, start: int, stop: int) -> None:
        """Compare the blocks of some rows with their checksums, once."""
        for block in blocks_of(start, stop):
            if not self._checked[block]:
                self._check_block(block)
                self._checked[block] = 1

    def _check_block(self, block: int) -> None:
        stop = min((block + 1) * BLOCK_ROWS, self._record.rows)
        rows = self._rows[block * BLOCK_ROWS : stop]
        self._compare(rows.view(np.uint8), self._record.row_sums, block)
        starts = np.append(rows["key"].astype(np.int64), self._line(stop))
        if (np.diff(starts) <= 0).any() or starts[-1] > self._record.key_bytes:
            raise self._damaged(f"the offsets of the keys in block {block} are not ascending")
        self._compare(self._keys[starts[0] : starts[-1]], self._record.key_sums, block)

    def _compare(self, data: NDArray[Any], sums: str, block: int) -> None:
        expected = sums[block * SUM_DIGITS : (block + 1) * SUM_DIGITS]
        if f"{extend_crc32c(0, np.asarray(data, np.uint8)):08x}" != expected:
            raise self._damaged(f"block {block} does not match its checksum")

    def _damaged(self, problem: str) -> Exception:
        return damaged_index(self._folder, f"part {self._record.name}: {problem}")
