"""Which finished shards have to be made again, since files of theirs are other ones now."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from epalm.cache.media_check import (
    CHANGED,
    VANISHED,
    Comparison,
    MediaCheck,
    compare_shards,
    first_keys,
)
from epalm.cache.records.media_record import MediaFile, MediaRecord
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import StoreError
from epalm.extract.decoding.media_files import media_files
from epalm.extract.planning.extraction_plan import Plan

COPY_FILES = 32
"""So many files at least make a data set that may be a copy."""

COPY_PART = 0.9
"""A data set of which so many files differ in their time alone is taken for a copy."""

MANY_FILES = 100_000
"""Above so many files a line says that they are checked."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Changes:
    """What became of the files of finished shards.

    Attributes:
        check: counts and keys.
        again: shards to make again -> rows within each that keep their vectors, since their
            files are gone.
    """

    check: MediaCheck
    again: Mapping[int, list[int]]


def shards_to_make_again(plan: Plan, store: Store, asked: str | None) -> Mapping[int, list[int]]:
    """`Changes.again`, once it is logged what changed.

    Args:
        plan: of the run.
        store: finished or not.
        asked: value of --changed-media.

    Raises:
        CorruptShardError: a commit record or a media record is damaged.
        StoreError: see `refuse_copies`.
    """
    if asked == "keep":
        return {}
    changes = find_changes(plan, store)
    if asked is None:
        refuse_copies(changes, store.location)
    for level, line in describe(changes, plan):
        logger.log(level, "%s", line)
    return changes.again


def find_changes(plan: Plan, store: Store) -> Changes:
    """Compare the files of this process's finished shards with what the store recorded.

    Raises:
        CorruptShardError: a commit record or a media record is damaged.
    """
    spec, missing = store.spec, set(store.missing_shards())
    shards = [n for n in range(spec.shards) if plan.share.owns(n) and n not in missing]
    count = sum(len(spec.rows_of(shard)) for shard in shards)
    if count > MANY_FILES:
        logger.info("checking %d %s for changes", count, plan.unit)

    def files(shard: int, _: MediaRecord) -> list[MediaFile]:
        rows = spec.rows_of(shard)
        return media_files(plan.items[rows.start : rows.stop], plan.root)

    check, again = MediaCheck(), {}
    for shard, comparison in compare_shards(store, shards, files):
        rows = spec.rows_of(shard)
        check.add(store.keys[rows.start : rows.stop], comparison)
        if (comparison.status == CHANGED).any():
            again[shard] = _kept(store, shard, comparison)
    return Changes(check, again)


def refuse_copies(changes: Changes, location: str) -> None:
    """Ask what to do about a data set that looks like a copy without the files' times.

    Raises:
        StoreError: almost all files differ in their time alone.
    """
    check = changes.check
    if check.checked >= COPY_FILES and check.by_time >= COPY_PART * check.checked:
        raise StoreError(
            f"{check.by_time} of {check.checked} media files have another modification time than "
            f"when {location} encoded them, and the same size, as in a copy of the data set: give "
            "--changed-media keep if it is one, or --changed-media encode to encode them again"
        )


def describe(changes: Changes, plan: Plan) -> Iterator[tuple[int, str]]:
    """Level of logging and text of each line about the changes; none if there are none."""
    check, spec = changes.check, plan.spec
    if check.changed:
        rows = sum(len(spec.rows_of(shard)) for shard in changes.again)
        rows -= sum(len(kept) for kept in changes.again.values())
        yield (
            logging.WARNING,
            f"{len(check.changed)} of {check.checked} {plan.unit} changed since they were encoded "
            f"({first_keys(check.changed)}): encoding {counted(len(changes.again), 'shard')} again "
            f"({rows} {plan.unit})",
        )
    if check.vanished:
        yield (
            logging.WARNING,
            f"{len(check.vanished)} of {check.checked} {plan.unit} are no longer there "
            f"({first_keys(check.vanished)}): their features are kept; --fresh makes a store "
            "without them",
        )
    if check.touched:
        yield (
            logging.INFO,
            f"{check.touched} {plan.unit} have another modification time but the recorded content: "
            "not encoded again",
        )
    if check.not_recorded:
        yield (
            logging.INFO,
            f"unknown whether {check.not_recorded} {plan.unit} changed: an earlier version encoded "
            "them and recorded nothing of their files",
        )


def _kept(store: Store, shard: int, comparison: Comparison) -> list[int]:
    """Rows whose file is gone, but that have vectors."""
    rows, failed = store.spec.rows_of(shard), store.commit_record(shard).errors
    gone = np.flatnonzero(comparison.status == VANISHED).tolist()
    return [row for row in gone if store.keys[rows.start + row] not in failed]
