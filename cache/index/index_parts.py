"""The parts of an index: each has keys and locations of up to half a million samples.

    parts/000012-00.keys    one line per key, see `epalm.cache.index.key_lines`
    parts/000012-00.rows    one record of `ROW` per key, in the same order
    parts/000012-00.hash    hashes of the keys, only until the index is complete
    units/000012.json       the parts of unit 12 of the dataset: rows, files, checksums

A unit is what one process reads at a time, e.g. some tar files. Its record is written last, so a
unit without a record is built again. Checksums are those of blocks of `BLOCK_ROWS` rows: a reader
of some rows checks only their blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.key_lines import encode_lines, hash_lines, line_starts
from epalm.cache.storage.checksum import extend_crc32c

BLOCK_ROWS = 4096
"""Rows per checksum."""

PART_ROWS = 1 << 19
"""Most rows of a part."""

PART_KEY_BYTES = 1 << 30
"""A part is closed when its keys may take more bytes."""

ENCODED_KEYS = 1 << 14
"""Keys that are encoded at a time, to bound memory."""

LONGEST_ESCAPE = 12
"""Bytes of the JSON text of a character outside the Basic Multilingual Plane."""

ROW = np.dtype([("key", "<u4"), ("file", "<u4"), ("first", "<i8"), ("second", "<i8")])
"""A row: offset of its line in the keys, number of its entry in the part's list of files, and two
numbers: offset and number of bytes in that file; row in the row group and number of bytes for a
cell of a table; modification time in nanoseconds and size for a file of its own."""

KEYED, WHOLE, BYTES, CELLS = "keyed", "whole", "bytes", "cells"
"""Kinds of entries: files of their own whose name contains the key, one file, byte ranges of a file
such as a tar, values of a column of a table."""


TO_THE_END, UNKNOWN = -1, -2
"""Number of bytes of a whole file, and size of a file that was not examined, as in media tables."""


class Location(NamedTuple):
    """Where the bytes of a sample are.

    Attributes:
        name: path of the file, relative to the data root, or absolute.
        offset: first byte in the file; for a cell of a table, row in the row group.
        nbytes: number of bytes; TO_THE_END for the whole file.
        size: size of the whole file in bytes; UNKNOWN if it was not examined.
        mtime_ns: modification time of the whole file; 0 if it was not examined.
        row_group: row group of a table; -1 for all other files.
        column: column of a table, e.g. "image.bytes"; "" for all other files.
    """

    name: str
    offset: int = 0
    nbytes: int = TO_THE_END
    size: int = UNKNOWN
    mtime_ns: int = 0
    row_group: int = -1
    column: str = ""


@dataclass(frozen=True)
class FileEntry:
    """A file, or the files of many samples whose names contain their keys.

    Attributes:
        kind: KEYED, WHOLE, BYTES or CELLS.
        name: path relative to the data root, or absolute; for KEYED, what precedes the key.
        suffix: for KEYED, what follows the key.
        size: size of the file in bytes; UNKNOWN for KEYED and WHOLE, whose rows have it.
        mtime_ns: modification time of the file; 0 for KEYED and WHOLE.
        row_group: row group of a table; -1 for other files.
        column: column of a table; "" for other files.
    """

    kind: str
    name: str
    suffix: str = ""
    size: int = UNKNOWN
    mtime_ns: int = 0
    row_group: int = -1
    column: str = ""

    def location(self, key: str, first: int, second: int) -> Location:
        """The location of a sample, from the two numbers of its row."""
        if self.kind in {KEYED, WHOLE}:
            name = f"{self.name}{key}{self.suffix}" if self.kind == KEYED else self.name
            return Location(name, size=second, mtime_ns=first)
        sizes = (self.size, self.mtime_ns)
        return Location(self.name, first, second, *sizes, self.row_group, self.column)


class SampleBatch(NamedTuple):
    """Consecutive samples whose files have one entry.

    Attributes:
        file: the entry.
        keys: their keys.
        first: first number of each row, see `ROW`; empty if files of their own were not examined.
        second: second number of each row; empty if they were not examined.
    """

    file: FileEntry
    keys: Sequence[str]
    first: Sequence[int] = ()
    second: Sequence[int] = ()


@dataclass(frozen=True)
class PartRecord:
    """What the record of a unit says about one of its parts.

    Attributes:
        name: name of its files without the suffix.
        rows: number of rows.
        key_bytes: size of the keys.
        key_sums: CRC-32C of the keys of each block of rows, eight hexadecimal digits each.
        row_sums: CRC-32C of the records of each block of rows.
        files: the files, numbered from 0.
    """

    name: str
    rows: int
    key_bytes: int
    key_sums: str = field(repr=False)
    row_sums: str = field(repr=False)
    files: tuple[FileEntry, ...] = field(default=(), repr=False)

    def as_json(self) -> dict[str, object]:
        """Fields for the record; entries have only the fields that are not defaults."""
        fields: dict[str, object] = asdict(self)
        return fields | {"files": [_changed_fields(entry) for entry in self.files]}


def _changed_fields(entry: FileEntry) -> dict[str, object]:
    default = FileEntry("?", "?")  # kind and name have no default
    return {k: v for k, v in vars(entry).items() if v != getattr(default, k)}


class EncodedPart(NamedTuple):
    """A part in memory.

    Attributes:
        record: what the record of its unit says about it.
        keys: content of the file of keys.
        rows: (rows,) records of `ROW`.
        hashes: (rows,) uint64 hashes of the keys.
    """

    record: PartRecord
    keys: bytes
    rows: NDArray[np.void]
    hashes: NDArray[np.uint64]


class PartBuffer:
    """Collects samples until a part is full."""

    def __init__(self, *, unique: bool = False) -> None:
        """Begin a part.

        Args:
            unique: whether to leave out samples whose key is that of an earlier one.
        """
        self._keys: list[str] = []
        self._seen: set[str] | None = set() if unique else None
        self._files: dict[FileEntry, int] = {}
        self._columns: list[NDArray[np.int64]] = []
        self._key_bytes = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def full(self) -> bool:
        """Whether the part must be closed."""
        return len(self._keys) >= PART_ROWS or self._key_bytes >= PART_KEY_BYTES

    def add(self, batch: SampleBatch) -> None:
        """Add samples."""
        if self._seen is not None:
            batch = self._unseen(batch, self._seen)
        count = len(batch.keys)
        columns = np.empty((count, 3), np.int64)
        columns[:, 0] = self._files.setdefault(batch.file, len(self._files))
        columns[:, 1] = batch.first or 0
        columns[:, 2] = batch.second or UNKNOWN
        self._keys += batch.keys
        self._columns.append(columns)
        self._key_bytes += LONGEST_ESCAPE * sum(map(len, batch.keys)) + 3 * count

    @staticmethod
    def _unseen(batch: SampleBatch, seen: set[str]) -> SampleBatch:
        """The samples of a batch whose keys were not seen before."""
        numbers = {key: n for n, key in reversed(list(enumerate(batch.keys))) if key not in seen}
        kept = sorted(numbers.values())
        seen.update(numbers)
        if len(kept) == len(batch.keys):
            return batch
        numbers_of = [[column[n] for n in kept] if column else () for column in batch[2:]]
        return SampleBatch(batch.file, [batch.keys[n] for n in kept], *numbers_of)

    def encode(self, name: str) -> EncodedPart:
        """The part with this name."""
        return encode_part(name, self._keys, np.concatenate(self._columns), tuple(self._files))


def encode_part(
    name: str, keys: Sequence[str], numbers: NDArray[np.int64], files: tuple[FileEntry, ...]
) -> EncodedPart:
    """Make a part.

    Args:
        name: name of the files without the suffix.
        keys: the key of each row.
        numbers: (rows, 3) number of the file, and the two numbers of each row.
        files: entries of its files.
    """
    steps = range(0, len(keys), ENCODED_KEYS)
    blocks = [encode_lines(keys[start : start + ENCODED_KEYS]) for start in steps]
    hashes = [hash_lines(block.split(b"\n")[:-1]) for block in blocks]
    lines = b"".join(blocks)
    starts = line_starts(lines)
    rows = np.empty(len(keys), ROW)
    rows["key"] = starts[:-1]
    for column, field_name in enumerate(("file", "first", "second")):
        rows[field_name] = numbers[:, column]
    record = PartRecord(
        name,
        len(keys),
        len(lines),
        key_sums=block_sums(lines, starts[:-1:BLOCK_ROWS].tolist()),
        row_sums=block_sums(
            rows.tobytes(), range(0, len(rows) * ROW.itemsize, BLOCK_ROWS * ROW.itemsize)
        ),
        files=files,
    )
    return EncodedPart(record, lines, rows, np.concatenate(hashes))


def block_sums(data: bytes, starts: Sequence[int]) -> str:
    """CRC-32C of the blocks that begin at `starts`, the last of which ends with the data."""
    ends = [*starts[1:], len(data)]
    view = np.frombuffer(data, np.uint8)
    return "".join(
        f"{extend_crc32c(0, view[start:end]):08x}" for start, end in zip(starts, ends, strict=True)
    )


def blocks_of(start: int, stop: int) -> Iterator[int]:
    """Numbers of the blocks that contain the rows from `start` to `stop`."""
    yield from range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS))
