"""Samples with the same key: refuse them, or keep the first of each."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.index_files import write_atomically
from epalm.cache.index.index_header import UnitEntry, UnitRecord, unit_file
from epalm.cache.index.index_parts import (
    TO_THE_END,
    EncodedPart,
    Location,
    PartRecord,
    encode_part,
)
from epalm.cache.index.part_reader import PartReader
from epalm.cache.index.sample_index import SampleIndex
from epalm.errors import StoreError

Repeated: TypeAlias = Literal["first", "refuse"]
"""What to do with several samples of one key."""


def repeated_rows(index: SampleIndex, runs: Iterable[Sequence[int]], policy: Repeated) -> list[int]:
    """The rows whose key is that of an earlier row.

    Args:
        index: the index, whose hash table is not used.
        runs: rows with the same hash, ascending in each run.
        policy: what to do with them.

    Raises:
        StoreError: there is one, and `policy` is "refuse"; names both places.
    """
    repeated: list[int] = []
    for rows in runs:
        first: dict[str, int] = {}
        for row in rows:
            (key,) = index.keys(row, row + 1)
            if key not in first:
                first[key] = row
            elif policy == "first":
                repeated.append(row)
            else:
                raise StoreError(
                    f"the key {key!r} is that of two samples, "
                    f"{_places(index, first[key], row)}: rename or remove one of them"
                )
    return repeated


def without_rows(
    index: SampleIndex, repeated: Sequence[int], write: Callable[[EncodedPart], None]
) -> list[UnitEntry]:
    """Write the parts of an index without some rows, and new records of their units.

    Args:
        index: the index.
        repeated: the rows to leave out, ascending.
        write: writes a part.

    Returns:
        The entries of all units, old and new ones.
    """
    rows = np.asarray(repeated, np.int64)
    bounds = np.searchsorted(rows, index.starts).tolist()
    dropped = [
        rows[first:last] - start
        for first, last, start in zip(bounds, bounds[1:], index.starts, strict=False)
    ]
    entries, part = [], 0
    for number, entry in enumerate(index.header.units):
        numbers = range(part, part + len(entry.rows))
        part = numbers.stop
        if not any(len(dropped[one]) for one in numbers):
            entries.append(entry)
            continue
        kept = [_shorter(index, one, dropped[one], write) for one in numbers]
        name = f"{entry.name.removesuffix('u')}u"
        record = UnitRecord(index.unit_source(number), tuple(one for one in kept if one))
        write_atomically(index.folder / unit_file(name), record.to_bytes())
        entries.append(record.entry(name))
    return entries


def _shorter(
    index: SampleIndex, part: int, dropped: NDArray[np.int64], write: Callable[[EncodedPart], None]
) -> PartRecord | None:
    """The record of a part without some rows; None if none is left."""
    record = index.part_record(part)
    if not len(dropped):
        return record
    kept = np.delete(np.arange(record.rows), dropped)
    if not len(kept):
        return None
    reader = PartReader(index.folder, record)
    keys, rows = reader.keys(0, record.rows), reader.rows(0, record.rows)[kept]
    numbers = np.stack([rows[name].astype(np.int64) for name in ("file", "first", "second")], 1)
    encoded = encode_part(
        f"{record.name.removesuffix('u')}u",
        [keys[row] for row in kept.tolist()],
        numbers,
        record.files,
    )
    write(encoded)
    return encoded.record


def _places(index: SampleIndex, first: int, second: int) -> str:
    """The files of two samples; within one file, where they are in it, counted from 0."""
    ((_, one),), ((_, other),) = (index.items(row, row + 1) for row in (first, second))
    if one.name != other.name:
        return f"in {one.name} and in {other.name}"
    return f"in {one.name}, at {_place_within(one, first)} and at {_place_within(other, second)}"


def _place_within(location: Location, row: int) -> str:
    if location.row_group >= 0:
        return f"row {location.offset} of row group {location.row_group}"
    if location.nbytes != TO_THE_END:
        return f"byte {location.offset}"
    return f"row {row} of all tables"  # which list paths: no other list of files may repeat one
