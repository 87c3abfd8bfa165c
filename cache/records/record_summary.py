"""A summary of the commit records of a store on an object store, epalm/summary.jsonl.

Counting the failed samples of 12,000 shards takes as many requests. The summary has the failed
samples of every shard with the MD5 of the commit record that they were read from. A listing of the
records gives their MD5, too, and an entry counts only if both agree. So the records alone decide:
a summary that is old, lost, damaged, or was overwritten by another process only costs requests.
It is a function of the records, whoever writes it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from epalm.cache.formats.generations import ShardVersion
from epalm.cache.records.commit_record import CommitRecord
from epalm.cache.records.record_listing import RecordListing
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.storage import Storage, has_content

SUMMARY_FILE = "summary.jsonl"

VERSION = 1


@dataclass(frozen=True)
class SummarizedRecord:
    """What a summary has of a commit record.

    Attributes:
        md5: MD5 of the record.
        errors: key -> reason of each failed sample.
    """

    md5: str
    errors: Mapping[str, str]


class RecordStore(Protocol):
    """A store with commit records."""

    storage: Storage

    @property
    def header(self) -> StoreHeader:
        """Content of spec.json."""

    def private_name(self, file: str) -> str:
        """Name of a file in the private folder."""

    def record_name_of(self, version: ShardVersion) -> str:
        """Name of the commit record of a version of a shard."""

    def parse_record(self, shard: int, version: ShardVersion, data: bytes) -> CommitRecord:
        """The record with this content, checked."""

    def finished(self, shard: int) -> tuple[ShardVersion, CommitRecord]:
        """The version of a finished shard that is read now, and its record."""


def read_records(store: RecordStore, listing: RecordListing) -> dict[int, SummarizedRecord]:
    """The failed samples of every listed shard; records are read in parallel.

    Raises:
        UnfinishedStoreError: a record was deleted after the listing, and none has replaced it.
        CorruptShardError: a record is damaged.
        CacheMismatchError: a record belongs to a store of other settings or samples.
    """
    known = _read_summary(store) if listing.md5 else {}
    records: dict[int, SummarizedRecord] = {}
    unread: list[int] = []
    for shard, version in listing.finished.items():
        entry = known.get(version.name)
        if entry and entry.md5 == listing.md5.get(shard):
            records[shard] = entry
        else:
            unread.append(shard)
    names = [store.record_name_of(listing.finished[shard]) for shard in unread]
    for shard, data in zip(unread, store.storage.read_many(names), strict=True):
        records[shard] = _read_record(store, shard, listing.finished[shard], data)
    return {shard: records[shard] for shard in listing.finished}


def write_summary(
    store: RecordStore, listing: RecordListing, records: Mapping[int, SummarizedRecord]
) -> None:
    """Write the summary of records, if listings of the store's storage have their MD5.

    A summary with the same content is not written again: the store may be read-only.
    """
    if listing.md5:
        named = {listing.finished[shard].name: record for shard, record in records.items()}
        data, name = summary_bytes(store.header.store, named), store.private_name(SUMMARY_FILE)
        if not has_content(store.storage, name, data):
            store.storage.put(name, [data])


def _read_record(
    store: RecordStore, shard: int, version: ShardVersion, data: bytes | None
) -> SummarizedRecord:
    if data is None:  # a growth has just been finished, or the shard is encoded again
        _, record = store.finished(shard)
        return SummarizedRecord("", record.errors)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return SummarizedRecord(md5, store.parse_record(shard, version, data).errors)


def _read_summary(store: RecordStore) -> dict[str, SummarizedRecord]:
    try:
        data = store.storage.read(store.private_name(SUMMARY_FILE))
    except FileNotFoundError:
        return {}
    return parse_summary(data, store.header.store)


def summary_bytes(store: str, records: Mapping[str, SummarizedRecord]) -> bytes:
    """Content of the file.

    Args:
        store: digest of the store, see `StoreSpec.digest`.
        records: name of the version of a shard -> its record.
    """
    lines = "".join(
        json.dumps([name, one.md5, dict(one.errors)], sort_keys=True) + "\n"
        for name, one in sorted(records.items())
    ).encode()
    checksum = size_and_checksum([lines])[1]
    head = {"version": VERSION, "store": store, "crc32c": checksum}
    return json.dumps(head, sort_keys=True).encode() + b"\n" + lines


def parse_summary(data: bytes, store: str) -> dict[str, SummarizedRecord]:
    """The records of a summary; empty if it is damaged or belongs to another store."""
    head, _, lines = data.partition(b"\n")
    try:
        fields = json.loads(head)
        expected = {"version": VERSION, "store": store, "crc32c": size_and_checksum([lines])[1]}
        if fields != expected:
            return {}
        entries = json.loads(b"[" + b",".join(lines.splitlines()) + b"]")
        return {name: _entry(md5, errors) for name, md5, errors in entries}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _entry(md5: object, errors: Mapping[str, object]) -> SummarizedRecord:
    reasons = {key: reason for key, reason in errors.items() if isinstance(reason, str)}
    if not isinstance(md5, str) or len(reasons) < len(errors):
        raise ValueError("an entry has other types")
    return SummarizedRecord(md5, reasons)
