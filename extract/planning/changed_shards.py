"""Which finished shards have to be encoded again because their media files have changed."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from epalm.cache.maintenance.media_check import (
    CHANGED,
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


def shards_to_reencode(
    plan: Plan, store: Store, changed_media: str | None
) -> Mapping[int, list[int]]:
    """Find and log changed media files.

    Args:
        plan: plan of the run.
        store: finished or unfinished store.
        changed_media: value of --changed-media.

    Returns:
        Shards to encode again, see `Changes`.

    Raises:
        CorruptShardError: a commit record or a media table is damaged.
        StoreError: `refuse_copies` found that every file differs in time alone.
    """
    if changed_media == "keep":
        return {}
    changes = find_changes(plan, store)
    if changed_media is None:
        refuse_copies(changes, store.location)
    for level, line in describe(changes, plan):
        logger.log(level, "%s", line)
    return changes.reencode


def find_changes(plan: Plan, store: Store) -> Changes:
    """Compare the files of this process's finished shards with the store's media tables.

    Raises:
        CorruptShardError: a commit record or a media table is damaged.
    """
    spec, missing = store.spec, set(store.missing_shards())
    shards = [n for n in range(spec.shards) if plan.process_shard.owns(n) and n not in missing]
    count = sum(len(spec.rows_of(shard)) for shard in shards)
    if count > MANY_FILES:
        logger.info("checking %d %s for changes", count, plan.unit)

    def files(shard: int, _: MediaTable) -> list[MediaFile]:
        rows = spec.rows_of(shard)
        return media_files(plan.items[rows.start : rows.stop], plan.root)

    check, reencode = MediaCheck(), {}
    for shard, comparison in compare_shards(store, shards, files):
        rows = spec.rows_of(shard)
        check.add(store.keys[rows.start : rows.stop], comparison)
        if (comparison.status == CHANGED).any():
            reencode[shard] = _unchanged_rows(store, shard, comparison)
    return Changes(check, reencode)


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


def _unchanged_rows(store: Store, shard: int, comparison: Comparison) -> list[int]:
    """Rows with features whose file no longer exists."""
    rows, failed = store.spec.rows_of(shard), store.commit_record(shard).errors
    vanished = np.flatnonzero(comparison.status == VANISHED).tolist()
    return [row for row in vanished if store.keys[rows.start + row] not in failed]
