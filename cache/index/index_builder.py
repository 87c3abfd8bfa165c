"""Build an index from the units of a dataset, in bounded memory, by one or several processes.

A unit is built by one process at a time, and its record is written last. A builder that is killed
leaves the records of its finished units, and the next one builds the others. The process that finds
all records sorts the hashes and writes index.json. The files are the same for any number of
processes and interruptions.
"""

import fcntl
import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epalm.atomic_write import sync
from epalm.cache.index.hash_sort import BucketSort, TableWriter, equal_runs
from epalm.cache.index.index_files import INDEX_FILE, read_file, write_atomically
from epalm.cache.index.index_header import IndexHeader, UnitEntry, UnitRecord, unit_file
from epalm.cache.index.index_parts import EncodedPart, PartBuffer, SampleBatch
from epalm.cache.index.key_lines import hash_lines
from epalm.cache.index.repeated_keys import Repeated, repeated_rows, without_rows
from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.index.vlen_keys import KeysChunk
from epalm.cache.storage.checksum import size_and_checksum
from epalm.errors import CacheMismatchError, CorruptShardError, StoreError

BATCH_ROWS = 1 << 16
"""Larger batches are divided."""


@dataclass(frozen=True)
class Unit:
    """What one process reads at a time.

    Attributes:
        source: state of what is read, e.g. names, sizes and modification times of tar files.
        read: iterates over its samples.
    """

    source: str
    read: Callable[[], Iterable[SampleBatch]] = field(repr=False)


class IndexBuilder:
    """Builds the index of one dataset in a folder."""

    def __init__(
        self,
        folder: Path,
        units: Sequence[Unit],
        labels: Mapping[str, str],
        *,
        repeated: Repeated = "refuse",
    ) -> None:
        """Read and write nothing yet.

        Args:
            folder: folder of the index; made if it does not exist.
            units: all units of the dataset, in the order of their rows.
            labels: what the index is made from.
            repeated: "first" keeps the first of several samples with one key, "refuse" refuses
                them.
        """
        self.folder = folder
        self._units = units
        self._labels = dict(labels)
        self._repeated: Repeated = repeated

    def sources_digest(self) -> str:
        """SHA-256 of the states of all units, a label of the index."""
        return hashlib.sha256("\n".join(unit.source for unit in self._units).encode()).hexdigest()

    def opened(self) -> SampleIndex | None:
        """The complete index of the dataset as it is now; None if it must be built.

        Raises:
            CacheMismatchError: the folder has the index of another dataset.
        """
        try:
            index = SampleIndex.open(self.folder)
        except StoreError:
            return None
        present, wanted = index.labels.get("dataset", ""), self._labels.get("dataset", "")
        if present != wanted:
            raise CacheMismatchError(
                f"{self.folder} is the index of the dataset {present}, not of {wanted}: give "
                "another --index (or --out, if the index is beside the store), or replace it with "
                "`epalm-extract plan --fresh` and the same --dataset and --index"
            )
        return index if dict(index.labels) == self._all_labels() else None

    def _all_labels(self) -> dict[str, str]:
        return self._labels | {"sources": self.sources_digest()}

    def build(
        self,
        *,
        part: int = 0,
        parts: int = 1,
        tick: Callable[[int], object] | None = None,
    ) -> SampleIndex | None:
        """Build the units that this process owns, and complete the index if no unit is missing.

        Args:
            part: number of this process, which owns the units of that number modulo `parts`.
            parts: number of processes.
            tick: called with the number of samples of each unit, built or not.

        Returns:
            The index; None if other processes have yet to build their units.

        Raises:
            StoreError: a key is repeated, no sample was found, or a file cannot be written.
            CacheMismatchError: the folder has the index of another dataset, which is kept.
            DataError: a file of the dataset cannot be read.
        """
        if parts == 1:  # several processes that would build all units do so one after the other
            with self._locked():
                return self.opened() or self._build(part, parts, tick)
        return self.opened() or self._build(part, parts, tick, locked=self._locked)

    def _build(
        self,
        part: int,
        parts: int,
        tick: Callable[[int], object] | None,
        *,
        locked: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> SampleIndex | None:
        for number in range(part, len(self._units), parts):
            rows = self._build_unit(number)
            if tick:
                tick(rows)
        records = [self._finished(number) for number in range(len(self._units))]
        finished = [record for record in records if record is not None]
        if len(finished) < len(records):
            return None
        with locked():
            return self.opened() or self._complete(finished)

    def _build_unit(self, number: int) -> int:
        """Build a unit unless it is finished; its number of rows."""
        if record := self._finished(number):
            return sum(part.rows for part in record.parts)
        unit, name = self._units[number], f"{number:06d}"
        (self.folder / INDEX_FILE).unlink(missing_ok=True)
        parts = []
        for encoded in self._parts(unit.read(), name):
            self._write_part(encoded)
            parts.append(encoded.record)
        record = UnitRecord(unit.source, tuple(parts))
        write_atomically(self.folder / unit_file(name), record.to_bytes())
        return sum(part.rows for part in parts)

    def _parts(self, batches: Iterable[SampleBatch], unit: str) -> Iterator[EncodedPart]:
        buffer, number = PartBuffer(unique=self._repeated == "first"), 0
        for batch in batches:
            for piece in _pieces(batch):
                buffer.add(piece)
                if buffer.full:
                    yield buffer.encode(f"{unit}-{number:02d}")
                    buffer, number = PartBuffer(unique=self._repeated == "first"), number + 1
        if len(buffer):
            yield buffer.encode(f"{unit}-{number:02d}")

    def _write_part(self, part: EncodedPart) -> None:
        stem = self.folder / "parts" / part.record.name
        write_atomically(stem.with_suffix(".keys"), part.keys)
        write_atomically(stem.with_suffix(".rows"), part.rows.tobytes())
        write_atomically(stem.with_suffix(".hash"), part.hashes.astype("<u8").tobytes())

    def _finished(self, number: int) -> UnitRecord | None:
        """The record of a unit as it is now; None if it must be built."""
        name = unit_file(f"{number:06d}")
        if not (self.folder / name).is_file():
            return None
        try:
            record = UnitRecord.from_bytes(read_file(self.folder, name), self.folder, name)
        except CorruptShardError:
            return None
        complete = all(
            (self.folder / "parts" / f"{part.name}{suffix}").is_file()
            for part in record.parts
            for suffix in (".keys", ".rows")
        )
        return record if complete and record.source == self._units[number].source else None

    def _complete(self, records: list[UnitRecord]) -> SampleIndex:
        """Sort the hashes and write index.json."""
        names = [f"{number:06d}" for number in range(len(records))]
        entries = [record.entry(name) for name, record in zip(names, records, strict=True)]
        if not sum(sum(entry.rows) for entry in entries):
            raise StoreError(f"{self._labels.get('dataset', 'the dataset')} has no samples")
        crc = ""
        while not crc:
            index = SampleIndex(self.folder, self._header(entries))
            repeated, crc = self._sort(index)
            if repeated:
                entries, crc = without_rows(index, repeated, self._write_part), ""
        header = replace(self._header(entries), table_crc32c=crc, **_digests(index))
        write_atomically(self.folder / INDEX_FILE, header.to_bytes())
        self._delete_unused(entries)
        return SampleIndex(self.folder, header)

    def _header(self, entries: Sequence[UnitEntry]) -> IndexHeader:
        """The header, still without digests."""
        rows = sum(sum(entry.rows) for entry in entries)
        return IndexHeader(rows, "", rows, "", (0, ""), tuple(entries), self._all_labels())

    def _sort(self, index: SampleIndex) -> tuple[list[int], str]:
        """Write the hash table; rows with repeated keys, or the checksum of table/sums."""
        temporary = self.folder / f"sort-{uuid.uuid4().hex}"
        temporary.mkdir()
        try:
            buckets = BucketSort(temporary, len(index))
            buckets.fill(self._hashes(index))
            with (
                (temporary / "hashes").open("xb") as hashes,
                (temporary / "rows").open("xb") as rows,
            ):
                writer = TableWriter(hashes, rows, len(index))
                repeated: list[int] = []
                for entries in buckets.sorted():
                    repeated += repeated_rows(index, equal_runs(entries), self._repeated)
                    writer.add(entries)
                sums, checksum = writer.finish()
            if repeated:
                return sorted(repeated), ""
            _place_table(temporary, self.folder / "table", sums)
            return [], checksum
        except OSError as error:
            raise StoreError(
                f"{self.folder} could not be written ({error}): free some space, then run the same "
                "command again; finished parts are kept"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _hashes(self, index: SampleIndex) -> Iterator[NDArray[np.uint64]]:
        for record in index.part_records():
            path = self.folder / "parts" / f"{record.name}.hash"
            hashes = np.fromfile(path, "<u8") if path.is_file() else np.empty(0, "<u8")
            if len(hashes) != record.rows:  # of an index that was complete before
                lines = read_file(self.folder, f"parts/{record.name}.keys").split(b"\n")[:-1]
                hashes = hash_lines(lines)
            yield hashes

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one process at a time complete the index; a killed one releases the lock."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("wb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _delete_unused(self, entries: Sequence[UnitEntry]) -> None:
        """Delete temporary files, and files of units that the dataset does not have any more."""
        header = IndexHeader.read(self.folder)
        index = SampleIndex(self.folder, header)
        kept = {f"{entry.name}.json" for entry in entries}
        for record in index.part_records():
            kept |= {f"{record.name}.keys", f"{record.name}.rows"}
        for folder in ("units", "parts"):
            for path in (self.folder / folder).iterdir():
                if path.name not in kept:
                    path.unlink(missing_ok=True)
        for path in self.folder.glob("sort-*"):
            shutil.rmtree(path, ignore_errors=True)
        for path in [*self.folder.glob(".*.new"), *(self.folder / "table").glob(".*.new")]:
            path.unlink(missing_ok=True)


def _pieces(batch: SampleBatch) -> Iterator[SampleBatch]:
    if len(batch.keys) <= BATCH_ROWS:
        yield batch
        return
    for start in range(0, len(batch.keys), BATCH_ROWS):
        piece = slice(start, start + BATCH_ROWS)
        yield SampleBatch(batch.file, batch.keys[piece], batch.first[piece], batch.second[piece])


def _place_table(temporary: Path, table: Path, sums: bytes) -> None:
    table.mkdir(exist_ok=True)
    for name in ("hashes", "rows"):
        sync(temporary / name)
        (temporary / name).replace(table / name)
    write_atomically(table / "sums", sums)


def _digests(index: SampleIndex) -> dict[str, Any]:
    """Digest of the keys, and size and checksum of their chunk in a Zarr store."""
    digest = hashlib.sha256()

    def digested() -> Iterator[bytes]:
        for lines in index.key_lines():
            digest.update(lines)
            yield lines

    chunk = size_and_checksum(KeysChunk(len(index), digested()))
    return {"keys_digest": digest.hexdigest(), "chunk": chunk}
