"""The sample index: keys and locations of all samples, without a list of them in memory.

An index is a folder:

    index.json    header with a checksum, written last
    units/        records of what was read, one per unit
    parts/        keys and locations, see `epalm.cache.index.index_parts`
    table/        rows by hash of the key, see `epalm.cache.index.hash_table`

Rows are numbered through all parts. Every part that is read is compared with its checksum.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.hash_table import HashTable
from epalm.cache.index.index_files import damaged_index, read_file
from epalm.cache.index.index_header import IndexHeader, UnitRecord, unit_file
from epalm.cache.index.index_parts import Location, PartRecord
from epalm.cache.index.key_lines import encode_lines, hash_lines
from epalm.cache.index.part_reader import PartReader
from epalm.cache.storage.checksum import size_and_checksum

MAPPED_PARTS = 4
"""Parts that are mapped at once, 27 MB each, to bound the memory of a process that reads all."""

LOOKUP_PARTS = 4096
"""Parts that are mapped at once for lookups of single keys, which use few pages of each."""

FIND_KEYS = 1 << 18
"""Keys that are looked up at a time, to bound memory."""


class SampleIndex:
    """A complete index."""

    def __init__(self, folder: Path, header: IndexHeader) -> None:
        """Map nothing yet, except for the hash table on its first use.

        Args:
            folder: folder of the index.
            header: content of its index.json.
        """
        self.folder = folder
        self.header = header
        self._places = [
            (u, p) for u, unit in enumerate(header.units) for p in range(len(unit.rows))
        ]
        counts = (rows for unit in header.units for rows in unit.rows)
        self.starts = list(accumulate(counts, initial=0))
        self._digests: dict[tuple[bytes, int], str] = {}
        self._table: HashTable | None = None
        self._part = lru_cache(MAPPED_PARTS)(self._open_part)
        self._lookup_part = lru_cache(LOOKUP_PARTS)(self._open_part)
        self._unit = lru_cache(LOOKUP_PARTS)(self._read_unit)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The index in a folder.

        Raises:
            StoreError: there is none, it is not complete, or it is of another version.
            CorruptShardError: index.json is damaged.
        """
        folder = Path(path)
        return cls(folder, IndexHeader.read(folder))

    def __len__(self) -> int:
        return self.header.rows

    @property
    def labels(self) -> Mapping[str, str]:
        """What the index was made from, e.g. "dataset", "root", "modality"."""
        return self.header.labels

    @property
    def keys_digest(self) -> str:
        """SHA-256 of all lines of keys: equal for equal keys in the same order."""
        return self.header.keys_digest

    def keys(self, start: int, stop: int) -> list[str]:
        """The keys of the rows from `start` to `stop`.

        Raises:
            IndexError: there are no such rows.
            CorruptShardError: a block does not match its checksum.
        """
        keys: list[str] = []
        for part, first, last in self._spans(start, stop):
            keys += self._part(part).keys(first, last)
        return keys

    def items(self, start: int, stop: int) -> list[tuple[str, Location]]:
        """Key and location of each row from `start` to `stop`; errors as in `keys`."""
        items: list[tuple[str, Location]] = []
        for part, first, last in self._spans(start, stop):
            reader = self._part(part)
            keys = reader.keys(first, last)
            items += zip(keys, reader.locations(first, last, keys), strict=True)
        return items

    def find(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """(keys,) the row of each key; -1 if the index does not have it.

        Raises:
            CorruptShardError: a block of the hash table or of the keys is damaged.
        """
        found = [
            self._find(keys[start : start + FIND_KEYS]) for start in range(0, len(keys), FIND_KEYS)
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def key_lines(self, count: int | None = None) -> Iterator[bytes]:
        """The lines of the first `count` keys, of all by default, in blocks of bytes.

        See `epalm.cache.index.key_lines` for a line. The bytes are not compared with their
        checksums, since the caller computes a digest that does that.
        """
        left = len(self) if count is None else count
        for number, (start, stop) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            if left <= 0:
                return
            rows = min(left, stop - start)
            name = f"parts/{self.part_record(number).name}.keys"
            data = read_file(self.folder, name)
            yield data if rows == stop - start else data[: self._part(number).line_offset(rows)]
            left -= rows

    def digest(self, settings: bytes, count: int) -> str:
        """SHA-256 of settings and the first `count` keys, see `StoreSpec.digest`; computed once."""
        if (settings, count) not in self._digests:
            digest, last = hashlib.sha256(settings), b"\n"
            for lines in self.key_lines(count):
                digest.update(last)
                digest.update(memoryview(lines)[:-1])
                last = lines[-1:]
            self._digests[settings, count] = digest.hexdigest()
        return self._digests[settings, count]

    def check(self) -> None:
        """Compare the keys with the digest of the header.

        Raises:
            CorruptShardError: they differ.
        """
        digest = hashlib.sha256()
        for lines in self.key_lines():
            digest.update(lines)
        if digest.hexdigest() != self.keys_digest:
            raise damaged_index(self.folder, "its keys do not match their digest")

    @property
    def table(self) -> HashTable:
        """The hash table."""
        if self._table is None:
            self._table = HashTable(self.folder, self.header)
        return self._table

    def _find(self, keys: Sequence[str]) -> NDArray[np.int64]:
        lines = encode_lines(keys).split(b"\n")[:-1]
        hashes = hash_lines(lines)
        positions = self.table.positions(hashes)
        result = np.full(len(keys), -1, np.int64)
        open_keys = np.arange(len(keys))
        while len(open_keys):
            actual, rows = self.table.entries(positions[open_keys])
            same = (actual == hashes[open_keys]) & (rows >= 0)
            open_keys, rows = open_keys[same], rows[same]
            matched = self._matches(rows, [lines[number] for number in open_keys.tolist()])
            result[open_keys[matched]] = rows[matched]
            open_keys = open_keys[~matched]
            positions[open_keys] += 1
        return result

    def _matches(self, rows: NDArray[np.int64], lines: Sequence[bytes]) -> NDArray[np.bool_]:
        """Whether the key of each row has the JSON text of the line with the same number."""
        matched = np.zeros(len(rows), np.bool_)
        places = self.parts_of(rows)
        for number in np.argsort(rows, kind="stable").tolist():
            part, row = places[number]
            matched[number] = self._lookup_part(part).matches(row, lines[number])
        return matched

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Part, first row and row after the last one, for each part of a range of rows."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"rows {start} to {stop} of {len(self)}")
        part = bisect_right(self.starts, start) - 1
        while start < stop:
            first, end = self.starts[part], self.starts[part + 1]
            last = min(stop, end)
            yield part, start - first, last - first
            start, part = last, part + 1

    def part_record(self, part: int) -> PartRecord:
        """The record of a part."""
        unit, number = self._places[part]
        return self._unit(unit).parts[number]

    def part_records(self) -> Iterator[PartRecord]:
        """The records of all parts in order."""
        return map(self.part_record, range(len(self._places)))

    def unit_source(self, unit: int) -> str:
        """State of what a unit was read from, see `UnitRecord`."""
        return self._unit(unit).source

    def parts_of(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Number of the part, and row within it, of each row."""
        parts = np.searchsorted(self.starts, rows, side="right") - 1
        inside = rows - np.asarray(self.starts, np.int64)[parts]
        return list(zip(parts.tolist(), inside.tolist(), strict=True))

    def _open_part(self, part: int) -> PartReader:
        return PartReader(self.folder, self.part_record(part))

    def _read_unit(self, number: int) -> UnitRecord:
        entry = self.header.units[number]
        name = unit_file(entry.name)
        data = read_file(self.folder, name)
        if size_and_checksum([data])[1] != entry.crc32c:
            raise damaged_index(self.folder, f"{name} does not match its checksum")
        record = UnitRecord.from_bytes(data, self.folder, name)
        if tuple(part.rows for part in record.parts) != entry.rows:
            raise damaged_index(self.folder, f"{name} has other numbers of rows")
        return record
