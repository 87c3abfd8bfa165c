"""Detect media files that changed since the features of a store were computed from them."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epalm.cache.records.file_state import ABSENT, UNKNOWN, MediaFile, hash_files, stat_files
from epalm.cache.records.media_table import MediaTable
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import CorruptShardError

SAME, TOUCHED, CHANGED, VANISHED, NOT_RECORDED = range(5)
"""Status of a file. TOUCHED: another modification time, but the recorded content hash; VANISHED: it
existed at extraction time and does not exist now; NOT_RECORDED: its state at extraction time is
unknown."""

SAMPLED_FILES = 4096
"""Maximum number of files that training and evaluation check; 0.02 s on a local disk."""

SAMPLED_SHARDS = 8
"""Maximum number of shards they are drawn from, since each shard's media table is read whole."""

SAMPLED_HASHES = 32
"""Maximum number of files that training and evaluation hash if their modification time differs."""

MAX_LISTED = 3
"""Number of samples that a message names."""

logger = logging.getLogger(__name__)


class Comparison(NamedTuple):
    """Status of some files.

    Attributes:
        status: (files,) int8, SAME to NOT_RECORDED.
        by_time: (files,) bool, True for changed files of which only the modification time is known
            to differ, as in a copy of the data that did not keep the times.
    """

    status: NDArray[np.int8]
    by_time: NDArray[np.bool_]


@dataclass
class MediaCheck:
    """Summary of a comparison of files with media tables.

    Attributes:
        checked: number of files with a recorded state.
        not_recorded: number of samples without a recorded state.
        touched: number of files with another modification time and the recorded content.
        by_time: number of changed files of which only the modification time is known to differ.
        changed: keys of samples whose file differs, or exists although it did not before.
        vanished: keys of samples whose file existed at extraction time and does not exist now.
    """

    checked: int = 0
    not_recorded: int = 0
    touched: int = 0
    by_time: int = 0
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    def add(self, keys: Sequence[str], comparison: Comparison) -> None:
        """Add the files of the samples with these keys."""
        status = comparison.status
        counts = np.bincount(status, minlength=NOT_RECORDED + 1)
        self.checked += len(keys) - int(counts[NOT_RECORDED])
        self.not_recorded += int(counts[NOT_RECORDED])
        self.touched += int(counts[TOUCHED])
        self.by_time += int(comparison.by_time.sum())
        self.changed += [keys[row] for row in np.flatnonzero(status == CHANGED).tolist()]
        self.vanished += [keys[row] for row in np.flatnonzero(status == VANISHED).tolist()]


def read_media_table(store: Store, shard: int) -> MediaTable | None:
    """The media table of a finished shard; None if it has none.

    Raises:
        UnfinishedStoreError: the shard is missing.
        CorruptShardError: the commit record is damaged, or the media table is missing or damaged.
    """
    version, record = store.finished(shard)
    name = store.media_name_of(version)
    expected = record.files.get(name)
    if expected is None:
        return None
    try:
        data = store.storage.read(name)
    except FileNotFoundError:
        data = b""
    if size_and_checksum([data]) != expected:
        if store.finished_version(shard) != version:  # a growth has just been finished
            return read_media_table(store, shard)
        raise CorruptShardError(
            f"{name} of {store.location} is missing or damaged: run `epalm-extract repair "
            f"{store.location}`, then extract again"
        )
    where = f"{store.location}: {name}"
    table = MediaTable.from_bytes(data, rows=version.rows, where=where)
    rows = len(store.spec.rows_of(shard))
    return table if rows == version.rows else table.take(range(rows))


def compare_files(
    recorded: MediaTable, files: Sequence[MediaFile], *, read_all: bool = False
) -> Comparison:
    """Compare files with their recorded state.

    A file is hashed if a hash was recorded, its metadata differ and the number of bytes is equal.

    Args:
        recorded: rows of a media table.
        files: current files of the same samples.
        read_all: hash every file with a recorded hash.
    """
    before, now = recorded.numbers, np.empty((len(files), 4), np.int64)
    now[:, :2] = stat_files(files)
    now[:, 2:] = np.array([file[2:] for file in files], np.int64).reshape(-1, 2)
    differs = (now != before).any(axis=1)
    status = np.where(differs, CHANGED, SAME).astype(np.int8)
    status[(now[:, 0] == ABSENT) & (before[:, 0] >= 0)] = VANISHED
    status[before[:, 0] == UNKNOWN] = NOT_RECORDED
    by_time = (status == CHANGED) & (now[:, (0, 2, 3)] == before[:, (0, 2, 3)]).all(axis=1)
    if recorded.hashes is not None:
        undecided = (status == CHANGED) & (_sample_bytes(now) == _sample_bytes(before))
        undecided |= (status == SAME) & (now[:, 0] >= 0) & read_all
        rows = np.flatnonzero(undecided & recorded.hashes.any(axis=1))
        hashes = hash_files([files[row] for row in rows.tolist()], now[rows, 0])
        equal = (hashes == recorded.hashes[rows]).all(axis=1)
        status[rows] = np.where(equal, np.where(differs[rows], TOUCHED, SAME), CHANGED)
        by_time[rows] = False
    return Comparison(status, by_time)


def compare_shards(
    store: Store,
    shards: Iterable[int],
    files: Callable[[int, MediaTable], Sequence[MediaFile]],
    *,
    read_all: bool = False,
) -> Iterator[tuple[int, Comparison]]:
    """Compare the files of finished shards with their media tables.

    Args:
        store: the store with these shards.
        shards: shard numbers.
        files: function (shard, its media table) -> the current files of its samples.
        read_all: hash every file with a recorded hash.

    Yields:
        Each shard with the status of its files.

    Raises:
        CorruptShardError: a commit record or a media table is damaged.
    """
    for shard in shards:
        rows = len(store.spec.rows_of(shard))
        recorded = read_media_table(store, shard) or MediaTable.unknown(rows, hashed=False)
        yield shard, compare_files(recorded, files(shard, recorded), read_all=read_all)


def verify_media(store: Store, root: str) -> MediaCheck:
    """Compare the files below a data root with the media tables, including recorded hashes.

    Missing shards are skipped.

    Raises:
        CorruptShardError: a commit record or a media table is damaged.
    """
    check, missing = MediaCheck(), set(store.missing_shards())
    shards = [shard for shard in range(store.spec.shards) if shard not in missing]
    comparisons = compare_shards(store, shards, lambda _, table: table.files(root), read_all=True)
    for shard, comparison in comparisons:
        rows = store.spec.rows_of(shard)
        check.add(store.keys[rows.start : rows.stop], comparison)
    return check


def warn_about_changed_media(store: Store, rows: NDArray[np.intp], *, root: str, seed: int) -> None:
    """Log one warning if media files changed since their features were computed.

    At most `SAMPLED_FILES` randomly drawn files are checked. Files that do not exist cause no
    warning, since features can be used without them.

    Args:
        store: a finished store.
        rows: rows of the samples that will be read; may repeat.
        root: data root with the current files.
        seed: seed of the random draw.
    """
    if not os.path.isdir(root):  # noqa: PTH112
        return
    check = MediaCheck()
    try:
        for shard, offsets in _draw_rows(store, rows, seed):
            if recorded := read_media_table(store, shard):
                keys = [store.keys[store.spec.rows_of(shard).start + offset] for offset in offsets]
                check.add(keys, _compare_quickly(recorded.take(offsets), root))
    except CorruptShardError as error:
        logger.warning("the media files cannot be checked: %s", error)
        return
    if check.changed:
        logger.warning(
            "%d of %s checked changed since %s was made (%s): its features are those of the old "
            "files; run the same extraction again; `epalm-extract verify --media %s` lists them",
            len(check.changed),
            counted(check.checked, "media file"),
            store.location,
            first_keys(check.changed),
            store.location,
        )


def first_keys(keys: Sequence[str]) -> str:
    """The first few of a list of keys, for a message."""
    return ", ".join(keys[:MAX_LISTED]) + (", ..." if len(keys) > MAX_LISTED else "")


def _compare_quickly(recorded: MediaTable, root: str) -> Comparison:
    """Compare metadata; if some files seem changed, hash a few of them to decide about all."""
    files = recorded.files(root)
    comparison = compare_files(replace(recorded, hashes=None), files)
    changed = np.flatnonzero(comparison.status == CHANGED)
    hashed = changed[:SAMPLED_HASHES]
    if recorded.hashes is not None and len(hashed):
        content = compare_files(recorded.take(hashed), [files[row] for row in hashed.tolist()])
        if not (content.status == CHANGED).any():
            comparison.status[changed] = TOUCHED
    return comparison


def _draw_rows(
    store: Store, rows: NDArray[np.intp], seed: int
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Some of the shards, each with the drawn rows, counted from the first row of the shard."""
    generator = np.random.default_rng(seed)
    rows = np.unique(rows)
    shard_of = rows // store.spec.shard_rows
    shards = np.unique(shard_of)
    if len(shards) > SAMPLED_SHARDS:
        shards = np.sort(generator.choice(shards, SAMPLED_SHARDS, replace=False))
    for shard in shards.tolist():
        offsets = rows[shard_of == shard] - store.spec.rows_of(shard).start
        max_files = SAMPLED_FILES // len(shards)
        if len(offsets) > max_files:
            offsets = np.sort(generator.choice(offsets, max_files, replace=False))
        yield shard, offsets


def _sample_bytes(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(files,) number of bytes of each sample."""
    return np.where(numbers[:, 3] < 0, numbers[:, 0], numbers[:, 3])
