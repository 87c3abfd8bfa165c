"""The growth records of a store, growth/00001.jsonl: the samples that each step has added.

spec.json describes the store as it was created and never changes. Each step of growth adds one
file, which is written atomically and never changed: the first line has the settings of
`GrowthRecord` with a checksum of the other lines, and each other line has the key of a row. The
first step also writes 00000.jsonl, with the keys of the rows that were there before. A grown store
reads its keys from these files; the arrays for other libraries are derived from them. Since nothing
else has the order of the rows, the folder growth_copy has a copy of each file, which `repair` uses.
"""

import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from epalm.cache.formats.missing_store import damaged_store_error
from epalm.cache.records.commit_record import FileSums, check_sums
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.storage.storage import Storage
from epalm.errors import CorruptShardError
from epalm.untrusted.checked_json import build


@dataclass(frozen=True)
class GrowthRecord:
    """Content of one file.

    Attributes:
        count: number of rows of the store after the step.
        store: digest of the store after the step, see `StoreSpec.digest`.
        shard_rows: rows per shard, the same in all records.
        files: size and checksum of the files for other libraries (metadata and keys) after it.
        keys: the keys of the rows that it has added.
    """

    count: int
    store: str
    shard_rows: int
    files: FileSums
    keys: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse impossible sizes and checksums."""
        check_sums(self.files)

    def to_bytes(self) -> bytes:
        """Content of the file: equal records give equal bytes."""
        lines = "".join(json.dumps(key) + "\n" for key in self.keys).encode()
        return self._first_line(lines) + lines

    def _first_line(self, lines: bytes) -> bytes:
        fields = {name: value for name, value in vars(self).items() if name != "keys"}
        text = json.dumps(fields, sort_keys=True).encode()
        checksum = size_and_checksum([text, lines])[1]
        return json.dumps({**fields, "crc32c": checksum}, sort_keys=True).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Parse the content of the file; `where` names it in the error.

        Raises:
            CorruptShardError: a byte differs from what `to_bytes` wrote.
        """
        try:
            head, line_feed, lines = data.partition(b"\n")
            record = build(cls, json.loads(head), "it")
            if record._first_line(lines) != head + line_feed:
                raise ValueError("its checksum differs")
            keys = json.loads(b"[" + b",".join(lines.splitlines()) + b"]")
            if not all(isinstance(key, str) for key in keys):
                raise ValueError("a key is not text")
        except (ValueError, RecursionError) as error:
            raise CorruptShardError(
                f"{where} is damaged ({error}): run `epalm-extract repair` on the store, then "
                "extract again"
            ) from error
        return replace(record, keys=tuple(keys))


def read_growth(
    storage: Storage, folder: str, *, location: str, header: StoreHeader
) -> tuple[GrowthRecord, ...]:
    """The growth records of a store in order, from 00000 on; empty if it has not grown.

    Args:
        storage: files of the store.
        folder: folder of the growth records.
        location: path or URL of the store, for error messages.
        header: content of spec.json.

    Raises:
        CorruptShardError: a record is damaged or missing, or belongs to another store.
    """
    records = []
    for number, name in enumerate(storage.names(folder)):
        if name != posixpath.join(folder, record_file(number)):
            raise damaged_store_error(location, f"{name} follows no other growth record")
        records.append(GrowthRecord.from_bytes(storage.read(name), f"{location}: {name}"))
    if records and (problem := _problem(records, header)):
        raise damaged_store_error(location, problem)
    return tuple(records)


def finished_bytes(generation: int) -> bytes:
    """Content of finished.json, which has the number of the last finished generation."""
    return dump_checksummed({"generation": generation})


def read_finished(storage: Storage, name: str, generations: int) -> int:
    """The number of the last finished generation; the first one, 0, if the file is missing.

    Args:
        storage: files of the store.
        name: name of finished.json.
        generations: number of generations.

    Raises:
        CorruptShardError: the file is damaged.
    """
    try:
        number = load_checksummed(storage.read(name), name).get("generation")
    except FileNotFoundError:
        return 0
    if type(number) is not int or not 0 <= number < generations:
        raise CorruptShardError(
            f"{name} names generation {number!r} of {generations}: run `epalm-extract repair` on "
            "the store, then extract again"
        )
    return number


def copy_records(storage: Storage, folder: str, copies: str) -> None:
    """Copy growth records that only one of two folders has, e.g. after a kill or a repair."""
    for lost in lost_records(storage, (folder, copies)):
        place, name = posixpath.split(lost)
        other = copies if place == folder else folder
        storage.put(lost, [storage.read(posixpath.join(other, name))])


def damaged_records(storage: Storage, folders: Sequence[str]) -> Iterator[str]:
    """Name of each file that is no intact growth record."""
    for name in (name for folder in folders for name in storage.names(folder)):
        try:
            GrowthRecord.from_bytes(storage.read(name), name)
        except CorruptShardError:
            yield name


def lost_records(storage: Storage, folders: Sequence[str]) -> list[str]:
    """Names of the growth records that only one of two folders has."""
    present = [_file_names(storage, folder) for folder in folders]
    every = set().union(*present)
    return [
        posixpath.join(folder, name)
        for folder, names in zip(folders, present, strict=True)
        for name in sorted(every - names)
    ]


def _file_names(storage: Storage, folder: str) -> set[str]:
    return {posixpath.basename(name) for name in storage.names(folder)}


def record_file(generation: int) -> str:
    """File name of the growth record of a generation."""
    return f"{generation:05d}.jsonl"


def _problem(records: Sequence[GrowthRecord], header: StoreHeader) -> str:
    """What is wrong with the growth records of a store as a whole; "" if nothing."""
    if (records[0].count, records[0].store) != (header.spec.count, header.store):
        return "its growth records belong to another store"
    total = 0
    for record in records:
        total += len(record.keys)
        if not record.keys or record.count != total:
            return f"a growth record has {record.count} rows, its keys make {total}"
    keys = {key for record in records for key in record.keys}
    return "its growth records repeat keys" if len(keys) < total else ""
