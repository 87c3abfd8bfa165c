"""Export a finished store to a format of another library, shard by shard.

Beside its data an export has a private folder `_epalm`, which readers of Parquet ignore:

    _epalm/export.json       format, and settings and digest of the store
    _epalm/done/00012.json   written after shard 12: the checksum of its features in the store, and
                             what the format wrote of it
    _SUCCESS                 empty, written once every shard is exported

A killed export loses at most its current shard, and the same command resumes. A shard that has
been encoded again since then is exported again.
"""

import posixpath
from dataclasses import dataclass
from typing import Any

import numpy as np

from epalm.cache.maintenance.exports.export_format import (
    ExportedShard,
    ExportFormat,
    Written,
    export_format,
)
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.storage.open_storage import open_storage
from epalm.cache.storage.storage import Storage
from epalm.cache.store import Store
from epalm.console import Ticker
from epalm.errors import CorruptShardError, StoreError

PRIVATE = "_epalm"

SUCCESS = "_SUCCESS"
"""Name of the file that marks a finished export, as Spark and Hadoop write it."""


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        out: path or URL of the export.
        format: name of the format.
        records: number of samples.
        failed: number of these without features.
        shards: number of shards.
        written: number of these that this run wrote.
    """

    out: str
    format: str
    records: int
    failed: int
    shards: int
    written: int


def export_store(store: Store, out: str, format_name: str, *, tick: Ticker) -> ExportReport:
    """Export a store, or resume that; one shard is in memory at a time.

    Args:
        store: a finished store.
        out: path or URL of the folder to write.
        format_name: a key of `EXPORT_FORMATS`.
        tick: called with the number of rows exported since the last call.

    Raises:
        UnfinishedStoreError: the store misses shards.
        CorruptShardError: a shard does not match its commit record.
        StoreError: `out` has something else, or cannot be written.
        MissingToolError: the library of the format is not installed.
    """
    store.check_complete()
    storage = open_storage(out, PRIVATE)
    target = export_format(format_name, out, storage)
    try:
        _claim(store, storage, out, format_name)
        written = _export(store, storage, target, tick=tick)
    except OSError as error:
        raise StoreError(
            f"{out} cannot be written ({error}): free some space or give write access, then run "
            "the same command again; exported shards are kept"
        ) from error
    failed = len(store.failed_samples())
    return ExportReport(out, format_name, store.spec.count, failed, store.spec.shards, written)


def _claim(store: Store, storage: Storage, out: str, format_name: str) -> None:
    """Write export.json, or compare it with the store."""
    name = posixpath.join(PRIVATE, "export.json")
    spec = store.spec.comparable()
    content = {"format": format_name, "store": _digest(store), "spec": spec}
    if storage.size(name) is None:
        present = [file for file in storage.names("") if not file.startswith(f"{PRIVATE}/")]
        if present:
            raise StoreError(
                f"{out} has other files ({present[0]}, ...): choose a new folder with --out"
            )
        if storage.put_new(name, [dump_checksummed(content)]):
            return
    other = load_checksummed(storage.read(name), f"{out}: {name}")
    if other == content:
        return
    found = "an export of another store, or of this one with other samples"
    if other.get("format") != format_name:
        found = f"an export in another format than {format_name} ({other.get('format')})"
    raise StoreError(f"{out} has {found}: choose another --out, or delete it first")


def _export(store: Store, storage: Storage, target: ExportFormat, *, tick: Ticker) -> int:
    """Write the shards that are not exported, then publish; the number of written shards."""
    records = {shard: _read_record(store, storage, shard) for shard in range(store.spec.shards)}
    pending = [shard for shard, one in records.items() if one is None or not target.has(one)]
    if not pending and storage.size(SUCCESS) is not None:
        tick(store.spec.count)
        return 0
    storage.delete([SUCCESS])
    tick(store.spec.count - sum(len(store.spec.rows_of(shard)) for shard in pending))
    for shard in pending:
        written = target.write(_load(store, shard))
        content = {"source": _source(store, shard), "written": dict(written)}
        storage.put(_record_name(shard), [dump_checksummed(content)])
        records[shard] = written
        tick(len(store.spec.rows_of(shard)))
    target.publish([one for one in records.values() if one is not None])
    storage.put(SUCCESS, [])
    storage.delete_partial_writes()
    return len(pending)


def _read_record(store: Store, storage: Storage, shard: int) -> Written | None:
    """What was written of a shard with its present features; None if that was not exported."""
    try:
        record: dict[str, Any] = load_checksummed(
            storage.read(name := _record_name(shard)), where=name
        )
    except (FileNotFoundError, CorruptShardError):
        return None
    written: Written = record["written"]
    return written if record["source"] == _source(store, shard) else None


def _load(store: Store, shard: int) -> ExportedShard:
    rows, errors = store.spec.rows_of(shard), store.commit_record(shard).errors
    keys = store.keys[rows.start : rows.stop]
    valid = np.array([key not in errors for key in keys])
    return ExportedShard(
        shard=shard,
        spec=store.spec,
        store=_digest(store),
        keys=keys,
        features=store.load_shard(shard)[: len(rows)],
        valid=valid,
        errors={key: errors[key] for key in keys if key in errors},
    )


def _source(store: Store, shard: int) -> str:
    """Checksum of the file with a shard's features."""
    version, record = store.finished(shard)
    name = store.format.shard_files(shard, version.name)[0]
    return record.files[name][1]


def _digest(store: Store) -> str:
    return store.generations.digests[store.generation]


def _record_name(shard: int) -> str:
    return posixpath.join(PRIVATE, f"done/{shard:05d}.json")
