"""Which finished shards have to be encoded again because their media files have changed."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from epalm.cache.maintenance.media_check import (
    CHANGED,
    SAME,
    VANISHED,
    Comparison,
    MediaCheck,
    compare_shards,
    first_keys,
)
from epalm.cache.records.file_state import MediaFile
from epalm.cache.records.media_table import MediaTable
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import StoreError
from epalm.extract.decoding.media_files import media_files
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.planning.store_rows import RowItems, Target

MIN_COPIED_FILES = 32
"""Smallest number of files of a dataset that is checked for being a copy."""

COPIED_FRACTION = 0.9
"""A dataset counts as a copy if at least this fraction of its files differs in time alone."""

MANY_FILES = 100_000
"""Above this number of files, the log says that they are checked."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """Changes of the files of finished shards.

    Attributes:
        check: number and keys of the changed files.
        reencode: shards to encode again -> rows within each that keep their features because
            their files no longer exist.
    """

    check: MediaCheck
    reencode: Mapping[int, list[int]]


def shards_to_reencode(target: Target, changed_media: str | None) -> Mapping[int, list[int]]:
    """Find and log changed media files.

    Args:
        target: plan of the run, and its finished or unfinished store.
        changed_media: value of --changed-media.

    Returns:
        Shards to encode again, see `Changes`.

    Raises:
        CorruptShardError: a commit record or a media table is damaged.
        StoreError: `refuse_copies` found that every file differs in time alone.
    """
    if changed_media == "keep":
        return {}
    changes = find_changes(target)
    if changed_media is None:
        refuse_copies(changes, target.store.location)
    for level, line in describe(changes, target.plan):
        logger.log(level, "%s", line)
    return changes.reencode


def find_changes(target: Target) -> Changes:
    """Compare the files of this process's finished shards with the store's media tables.

    A missing shard that is finished with fewer rows is compared as well. Samples that the dataset
    does not have are not compared.

    Raises:
        CorruptShardError: a commit record or a media table is damaged.
    """
    plan, items = target.plan, target.items
    finished = list(_finished_shards(target.store, plan.process_shard))
    count = sum(len(store.spec.rows_of(shard)) for store, shard in finished)
    if count > MANY_FILES:
        logger.info("checking %d %s for changes", count, plan.unit)
    check, reencode = MediaCheck(), {}
    for store, shard in finished:
        rows = store.spec.rows_of(shard)
        row_items = items[rows.start : rows.stop]
        files = partial(_current_files, row_items, root=plan.root)
        ((_, comparison),) = compare_shards(store, [shard], files)
        comparison.status[[item is None for item in row_items]] = SAME
        check.add(store.keys[rows.start : rows.stop], comparison)
        if (comparison.status == CHANGED).any():
            reencode[shard] = _unchanged_rows(store, shard, comparison, row_items)
    return Changes(check, reencode)


def _finished_shards(store: Store, process_shard: ProcessShard) -> Iterator[tuple[Store, int]]:
    """Each finished shard, with the store in a generation in which it is finished."""
    missing = set(store.missing_shards())
    for shard in filter(process_shard.owns, range(store.spec.shards)):
        if shard not in missing:
            yield store, shard
        elif shorter := store.shorter_generation(shard):
            yield shorter, shard


def _current_files(items: RowItems, _: int, table: MediaTable, *, root: Path) -> list[MediaFile]:
    """The file of each sample; the recorded one if the dataset does not have the sample."""
    files = table.files(str(root))
    rows = [row for row, item in enumerate(items) if item is not None]
    current = media_files([item for item in items if item is not None], root)
    for row, file in zip(rows, current, strict=True):
        files[row] = file
    return files


def refuse_copies(changes: Changes, location: str) -> None:
    """Require --changed-media for a dataset that looks like a copy with new file times.

    Raises:
        StoreError: almost all files differ in their time alone.
    """
    check = changes.check
    if check.checked >= MIN_COPIED_FILES and check.by_time >= COPIED_FRACTION * check.checked:
        raise StoreError(
            f"{check.by_time} of {check.checked} media files have another modification time than "
            f"when {location} encoded them, and the same size, as in a copy of the dataset: give "
            "--changed-media keep if it is one, or --changed-media encode to encode them again"
        )


def describe(changes: Changes, plan: Plan) -> Iterator[tuple[int, str]]:
    """(Logging level, text) of each line about the changes; nothing if nothing changed."""
    check, spec = changes.check, plan.spec
    if check.changed:
        shards = counted(len(changes.reencode), "shard")
        rows = sum(len(spec.rows_of(shard)) for shard in changes.reencode)
        rows -= sum(len(unchanged) for unchanged in changes.reencode.values())
        yield (
            logging.WARNING,
            f"{len(check.changed)} of {check.checked} {plan.unit} changed since they were encoded "
            f"({first_keys(check.changed)}): encoding {shards} again "
            f"({plan.samples(rows)})",
        )
    if check.vanished:
        yield (
            logging.WARNING,
            f"{len(check.vanished)} of {check.checked} {plan.unit} no longer exist "
            f"({first_keys(check.vanished)}): their features are kept; --fresh leaves them out",
        )
    if check.touched:
        yield (
            logging.INFO,
            f"{plan.samples(check.touched)} with another modification time but the recorded "
            "content: not encoded again",
        )
    if check.not_recorded:
        yield (
            logging.INFO,
            f"unknown whether {plan.samples(check.not_recorded)} changed: an earlier version "
            "encoded them without a record of their files",
        )


def _unchanged_rows(store: Store, shard: int, comparison: Comparison, items: RowItems) -> list[int]:
    """Rows with features whose file no longer exists, or whose sample is not in the dataset."""
    rows, failed = store.spec.rows_of(shard), store.commit_record(shard).errors
    kept = comparison.status == VANISHED
    kept |= [item is None for item in items]
    return [
        row for row in np.flatnonzero(kept).tolist() if store.keys[rows.start + row] not in failed
    ]
