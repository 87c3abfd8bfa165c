"""The header of an index, index.json, and the records of its units."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from epalm.cache.index.index_files import INDEX_FILE, damaged_index, read_file
from epalm.cache.index.index_parts import BYTES, CELLS, KEYED, WHOLE, PartRecord
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.errors import CorruptShardError, MalformedFileError, StoreError
from epalm.untrusted.checked_json import build

INDEX_VERSION = 1
"""Version of the files; readers refuse any other."""

MAX_ROWS = 10**10
"""Most rows of an index, as of a store."""


@dataclass(frozen=True)
class UnitEntry:
    """A unit in the header.

    Attributes:
        name: name of its record without the suffix.
        crc32c: checksum of its record.
        rows: number of rows of each of its parts.
    """

    name: str
    crc32c: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class IndexHeader:
    """Content of index.json.

    Attributes:
        rows: number of samples.
        keys_digest: SHA-256 of all lines of keys in the order of the rows.
        table_rows: number of entries of the hash table, which is that of the rows.
        table_crc32c: checksum of the file with the checksums of the hash table.
        chunk: size and checksum of the chunk of all keys in a Zarr store, see `KeysChunk`.
        units: the units in order; rows are numbered through all their parts.
        labels: what the index was made from: "dataset", "root", "modality", "tasks", ...
        version: version of the files.
    """

    rows: int
    keys_digest: str
    table_rows: int
    table_crc32c: str
    chunk: tuple[int, str]
    units: tuple[UnitEntry, ...]
    labels: Mapping[str, str]
    version: int = INDEX_VERSION

    def to_bytes(self) -> bytes:
        """Content of the file: equal headers give equal bytes."""
        return dump_checksummed(asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the header of the index in a folder.

        Raises:
            StoreError: the index is of another version, or not complete.
            CorruptShardError: the header is damaged.
        """
        if not (folder / INDEX_FILE).exists():
            raise StoreError(
                f"{folder} is no complete index, {INDEX_FILE} is missing: run `epalm-extract "
                "plan` with the same --dataset and --index to complete it"
            )
        try:
            header = build(cls, load_checksummed(read_file(folder, INDEX_FILE), "it"), "it")
        except (CorruptShardError, MalformedFileError) as error:
            raise damaged_index(folder, f"{INDEX_FILE} does not match its checksum") from error
        if header.version != INDEX_VERSION:
            raise StoreError(
                f"{folder} has version {header.version}, this release of epalm reads version "
                f"{INDEX_VERSION}: install the matching release, or build the index again with "
                "`epalm-extract plan --fresh`"
            )
        header._check_counts(folder)
        return header

    def _check_counts(self, folder: Path) -> None:
        if not all(unit.name.isalnum() for unit in self.units):
            raise damaged_index(folder, "a unit has an impossible name")
        counts = [rows for unit in self.units for rows in unit.rows]
        if not all(rows > 0 for rows in counts) or not 0 < self.rows <= MAX_ROWS:
            raise damaged_index(folder, f"{self.rows} rows in parts of {counts[:5]}")
        if sum(counts) != self.rows or self.table_rows != self.rows:
            raise damaged_index(
                folder, f"{self.rows} rows, but its parts have {sum(counts)} and its hash table "
                f"has {self.table_rows}"
            )  # fmt: skip


@dataclass(frozen=True)
class UnitRecord:
    """Content of units/000012.json: what one process has read at a time.

    Attributes:
        source: the state of what was read, e.g. names, sizes and times of tar files; another state
            makes the builder read the unit again.
        parts: the parts, in order; empty if no sample was found.
    """

    source: str
    parts: tuple[PartRecord, ...]

    def to_bytes(self) -> bytes:
        """Content of the file: equal records give equal bytes."""
        parts = [part.as_json() for part in self.parts]
        return dump_checksummed({"source": self.source, "parts": parts})

    @classmethod
    def from_bytes(cls, data: bytes, folder: Path, name: str) -> Self:
        """Parse the content of the file `name` of the index in `folder`.

        Raises:
            CorruptShardError: it is damaged, or was not written by this program.
        """
        try:
            record = build(cls, load_checksummed(data, "it"), "it")
        except (CorruptShardError, MalformedFileError) as error:
            raise damaged_index(folder, f"{name} does not match its checksum") from error
        kinds = {entry.kind for part in record.parts for entry in part.files}
        plain = all(part.name.replace("-", "").isalnum() for part in record.parts)
        if not kinds <= {KEYED, WHOLE, BYTES, CELLS} or not plain:
            raise damaged_index(folder, f"{name} has unknown kinds of files or names of parts")
        return record

    def entry(self, name: str) -> UnitEntry:
        """The entry of the header for this record."""
        checksum = size_and_checksum([self.to_bytes()])[1]
        return UnitEntry(name, checksum, tuple(part.rows for part in self.parts))


def unit_file(name: str) -> str:
    """Name of the record of a unit in the folder of the index."""
    return f"units/{name}.json"
