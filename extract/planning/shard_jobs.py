"""The shards that a run encodes, and what it keeps of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Self

import numpy as np

from epalm.cache.formats.store_format import Features
from epalm.cache.maintenance.media_check import read_media_table
from epalm.cache.records.media_table import MediaTable
from epalm.cache.store import Store
from epalm.extract.decoding.decode_batch import LoadedBatch
from epalm.extract.indexing.index_items import IndexItems, RowsOfItems
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.planning.store_rows import RowItems

ABSENT = "not in the dataset any more"
"""Reason of the failure of a sample of the store that is neither encoded nor in the dataset."""


@dataclass(frozen=True)
class Job:
    """A shard to encode.

    Attributes:
        shard: number of the shard.
        rows: rows within the shard to encode.
        unchanged: rows within the shard that keep their features.
        absent: rows within the shard to encode whose sample is not in the dataset.
        source: the store in a generation that has the unchanged rows; None without such rows.
        reencode: whether rows that are already finished are encoded again.
    """

    shard: int
    rows: Sequence[int]
    unchanged: Sequence[int]
    absent: Sequence[int]
    source: Store | None
    reencode: bool

    @classmethod
    def of(
        cls,
        store: Store,
        shard: int,
        items: RowItems,
        *,
        source: Store | None = None,
        unchanged: Sequence[int] = (),
        reencode: bool = False,
    ) -> Self:
        """The job of encoding all rows of a shard except the unchanged ones."""
        shard_rows = store.spec.rows_of(shard)
        rows: Sequence[int] = range(len(shard_rows))
        if unchanged:
            rows = sorted(set(rows) - set(unchanged))
        if absent := absent_rows(items, shard_rows):
            present = [row for row in rows if row not in absent]
            missing = [row for row in rows if row in absent]
            return cls(shard, present, unchanged, missing, source, reencode)
        return cls(shard, rows, unchanged, (), source, reencode)


def absent_rows(items: RowItems, rows: range) -> set[int]:
    """Those of some rows that have no sample, counted from the first one."""
    if isinstance(items, IndexItems):
        return set()
    if isinstance(items, RowsOfItems):
        return set(items.absent(rows).tolist())
    return {row for row, item in enumerate(items[rows.start : rows.stop]) if item is None}


def plan_jobs(
    store: Store,
    items: RowItems,
    process_shard: ProcessShard,
    reencode: Mapping[int, Sequence[int]],
) -> list[Job]:
    """The jobs of a process, in the order of the shards.

    Args:
        store: the store with all its rows.
        items: the sample of each row.
        process_shard: the missing shards that this process encodes.
        reencode: shards to encode again -> rows within each that keep their features.
    """
    missing = {shard for shard in store.missing_shards() if process_shard.owns(shard)}
    return jobs_of(store, items, missing=missing, reencode=reencode)


def jobs_of(
    store: Store,
    items: RowItems,
    *,
    missing: Set[int],
    reencode: Mapping[int, Sequence[int]],
) -> list[Job]:
    """The jobs of given shards, in the order of the shards.

    Args:
        store: the store with all its rows.
        items: the sample of each row.
        missing: missing shards to encode.
        reencode: shards to encode again -> rows within each that keep their features.
    """
    jobs = []
    for shard in sorted(missing | reencode.keys()):
        source = store.shorter_generation(shard) if shard in missing else store
        finished = range(len(source.spec.rows_of(shard))) if source else ()
        jobs.append(
            Job.of(
                store,
                shard,
                items,
                source=source,
                unchanged=reencode.get(shard, finished) if source else (),
                reencode=shard in reencode,
            )
        )
    return jobs


def initial_media(store: Store, job: Job) -> MediaTable:
    """The shard's media table, filled only for rows that keep their features."""
    rows = len(store.spec.rows_of(job.shard))
    table = MediaTable.unknown(rows, hashed=store.spec.content_hash)
    if job.unchanged and job.source and (previous := read_media_table(job.source, job.shard)):
        table.put(job.unchanged, previous.take(job.unchanged))
    return table


def initial_tokens(store: Store, job: Job) -> Features:
    """(rows, V, L, D), NaN except for rows that keep their features."""
    tokens, first = allocate_tokens(store, job)
    tokens[first:] = np.nan
    return tokens


def allocate_tokens(store: Store, job: Job) -> tuple[Features, int]:
    """(rows, V, L, D) for a shard, whose rows from the second value on are not set yet.

    Memory is used by the rows that are set. Those before are NaN, except for rows that keep their
    features.
    """
    shape = (len(store.spec.rows_of(job.shard)), *store.spec.row_shape)
    tokens = np.empty(shape, dtype=store.spec.dtype)
    first = max(job.unchanged, default=-1) + 1
    tokens[:first] = np.nan
    if job.unchanged and job.source:
        tokens[job.unchanged] = job.source.load_shard(job.shard)[job.unchanged]
    return tokens, first


def blank_rows(
    tokens: Features, batches: Iterable[LoadedBatch], first: int
) -> Iterator[LoadedBatch]:
    """Pass batches on, and set rows that are not set yet to NaN, those of a batch before it.

    Setting all of them at once would take the memory of a whole shard while the previous one is
    still being written.

    Args:
        tokens: (rows, V, L, D) features of a shard, changed in place.
        batches: decoded batches of the shard.
        first: first row that is not set.
    """
    for batch in batches:
        after = max(max(batch.rows, default=-1) + 1, first)
        tokens[first:after] = np.nan
        first = after
        yield batch
    tokens[first:] = np.nan


def initial_errors(job: Job, keys: Sequence[str]) -> dict[str, str]:
    """Key -> reason of the failed samples that are not encoded by this job."""
    failed = job.source.commit_record(job.shard).errors if job.unchanged and job.source else {}
    unchanged = {keys[row]: failed[keys[row]] for row in job.unchanged if keys[row] in failed}
    return unchanged | {keys[row]: ABSENT for row in job.absent}
