"""Whether the media files of a store are still those that it was made from."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from epalm.cache.records.media_record import (
    ABSENT,
    UNKNOWN,
    MediaFile,
    MediaRecord,
    hash_files,
    stat_files,
)
from epalm.cache.storage.storage import measure
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import CorruptShardError

SAME, TOUCHED, CHANGED, VANISHED, NOT_RECORDED = range(5)
"""What became of a file. TOUCHED: another time, but the recorded content hash; VANISHED: it was
there and is not; NOT_RECORDED: nothing is known of the file that was encoded."""

SAMPLED_FILES = 4096
"""Files that training and evaluation look at, at most; 0.02 s on a local disk."""

SAMPLED_SHARDS = 8
"""Shards that these files are taken from, at most: the media record of each is read whole."""

SAMPLED_HASHES = 32
"""Files whose content training and evaluation read, at most, where their time differs."""

SHOWN = 3
"""Files that a message names."""

logger = logging.getLogger(__name__)


class Compared(NamedTuple):
    """What became of some files.

    Attributes:
        verdicts: (files,) int8, SAME to NOT_RECORDED.
        by_time: (files,) bool, changed files that differ in their time alone as far as is known, as
            those of a copy do that did not keep the times.
    """

    verdicts: NDArray[np.int8]
    by_time: NDArray[np.bool_]


@dataclass
class MediaCheck:
    """What a comparison found.

    Attributes:
        checked: files of which something was recorded.
        not_recorded: samples of which nothing was recorded.
        touched: files with another time and the recorded content.
        by_time: changed files that differ in their time alone as far as is known.
        changed: keys of samples whose file is another one, or is there though it was not.
        vanished: keys of samples whose file was there and is not.
    """

    checked: int = 0
    not_recorded: int = 0
    touched: int = 0
    by_time: int = 0
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)

    def add(self, keys: Sequence[str], compared: Compared) -> None:
        """Count the files of some samples."""
        counts = np.bincount(compared.verdicts, minlength=NOT_RECORDED + 1)
        self.checked += len(keys) - int(counts[NOT_RECORDED])
        self.not_recorded += int(counts[NOT_RECORDED])
        self.touched += int(counts[TOUCHED])
        self.by_time += int(compared.by_time.sum())
        self.changed += [keys[row] for row in np.flatnonzero(compared.verdicts == CHANGED).tolist()]
        self.vanished += [
            keys[row] for row in np.flatnonzero(compared.verdicts == VANISHED).tolist()
        ]


def read_media_record(store: Store, shard: int) -> MediaRecord | None:
    """What the media files of a finished shard were; None if that was not recorded.

    Raises:
        UnfinishedStoreError: the shard is missing.
        CorruptShardError: its commit record is damaged, or its media record lost or damaged.
    """
    name = store.media_name(shard)
    wanted = store.record(shard).files.get(name)
    if wanted is None:
        return None
    try:
        data = store.place.read(name)
    except FileNotFoundError:
        data = b""
    if measure([data]) != wanted:
        raise CorruptShardError(
            f"{name} of {store.location} is lost or damaged: run `epalm-extract repair "
            f"{store.location}`, then extract again"
        )
    rows = len(store.spec.rows_of(shard))
    return MediaRecord.from_bytes(data, rows=rows, where=f"{store.location}: {name}")


def compare(
    recorded: MediaRecord, files: Sequence[MediaFile], *, read_all: bool = False
) -> Compared:
    """Compare files with what was recorded of them.

    Content is read where a hash was recorded, the metadata differ and the number of bytes agrees.

    Args:
        recorded: rows of a media record.
        files: of the same samples, as they are now.
        read_all: read the content wherever a hash was recorded.
    """
    was, now = recorded.numbers, np.empty((len(files), 4), np.int64)
    now[:, :2] = stat_files(files)
    now[:, 2:] = np.array([file[2:] for file in files], np.int64).reshape(-1, 2)
    differs = (now != was).any(axis=1)
    verdicts = np.where(differs, CHANGED, SAME).astype(np.int8)
    verdicts[(now[:, 0] == ABSENT) & (was[:, 0] >= 0)] = VANISHED
    verdicts[was[:, 0] == UNKNOWN] = NOT_RECORDED
    by_time = (verdicts == CHANGED) & (now[:, (0, 2, 3)] == was[:, (0, 2, 3)]).all(axis=1)
    if recorded.hashes is not None:
        undecided = (verdicts == CHANGED) & (_sample_bytes(now) == _sample_bytes(was))
        undecided |= (verdicts == SAME) & (now[:, 0] >= 0) & read_all
        rows = np.flatnonzero(undecided & recorded.hashes.any(axis=1))
        found = hash_files([files[row] for row in rows.tolist()], now[rows, 0])
        equal = (found == recorded.hashes[rows]).all(axis=1)
        verdicts[rows] = np.where(equal, np.where(differs[rows], TOUCHED, SAME), CHANGED)
        by_time[rows] = False
    return Compared(verdicts, by_time)


def check_shards(
    store: Store,
    shards: Iterable[int],
    files: Callable[[int, MediaRecord], Sequence[MediaFile]],
    *,
    read_all: bool = False,
) -> Iterator[tuple[int, Compared]]:
    """Compare the files of finished shards with their media records.

    Args:
        store: with these shards.
        shards: their numbers.
        files: (shard, its media record) -> its files as they are now.
        read_all: see `compare`.

    Yields:
        Each shard and what became of its files.

    Raises:
        CorruptShardError: a commit record or a media record is damaged.
    """
    for shard in shards:
        rows = len(store.spec.rows_of(shard))
        recorded = read_media_record(store, shard) or MediaRecord.unknown(rows, hashed=False)
        yield shard, compare(recorded, files(shard, recorded), read_all=read_all)


def verify_media(store: Store, root: str) -> MediaCheck:
    """Compare the files below a data root with what the store recorded, their content too.

    Shards that are missing are passed over.

    Raises:
        CorruptShardError: a commit record or a media record is damaged.
    """
    found, missing = MediaCheck(), set(store.missing())
    shards = [shard for shard in range(store.spec.shards) if shard not in missing]
    every = check_shards(store, shards, lambda _, record: record.files(root), read_all=True)
    for shard, compared in every:
        rows = store.spec.rows_of(shard)
        found.add(store.keys[rows.start : rows.stop], compared)
    return found


def warn_of_changes(store: Store, rows: NDArray[np.intp], *, root: str, seed: int) -> None:
    """Log one warning if files that the features are about to be used for are other ones now.

    At most `SAMPLED_FILES` of them are looked at, drawn by the seed. Files that are not there are
    no reason: features are used without them.

    Args:
        store: finished.
        rows: of the samples that are read, repeated or not.
        root: data root, where the files are now.
        seed: of the draw.
    """
    if not os.path.isdir(root):  # noqa: PTH112
        return
    found = MediaCheck()
    try:
        for shard, places in _drawn(store, rows, seed):
            if recorded := read_media_record(store, shard):
                keys = [store.keys[store.spec.rows_of(shard).start + place] for place in places]
                found.add(keys, _compare_quickly(recorded.take(places), root))
    except CorruptShardError as error:
        logger.warning("the media files cannot be checked: %s", error)
        return
    if found.changed:
        logger.warning(
            "%d of %s checked changed since %s was made (%s): its features are of the old ones; "
            "run the same extraction again, `epalm-extract verify --media %s` lists them",
            len(found.changed),
            counted(found.checked, "media file"),
            store.location,
            shown(found.changed),
            store.location,
        )


def shown(keys: Sequence[str]) -> str:
    """The first few of some keys, for a message."""
    return ", ".join(keys[:SHOWN]) + (", ..." if len(keys) > SHOWN else "")


def _compare_quickly(recorded: MediaRecord, root: str) -> Compared:
    """By metadata; of the changed files the content of a few decides about all."""
    files = recorded.files(root)
    compared = compare(replace(recorded, hashes=None), files)
    changed = np.flatnonzero(compared.verdicts == CHANGED)
    some = changed[:SAMPLED_HASHES]
    if recorded.hashes is not None and len(some):
        read = compare(recorded.take(some), [files[row] for row in some.tolist()])
        if not (read.verdicts == CHANGED).any():
            compared.verdicts[changed] = TOUCHED
    return compared


def _drawn(
    store: Store, rows: NDArray[np.intp], seed: int
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Some shards, and the rows within each that are drawn."""
    generator = np.random.default_rng(seed)
    rows = np.unique(rows)
    shard_of = rows // store.spec.shard_rows
    shards = np.unique(shard_of)
    if len(shards) > SAMPLED_SHARDS:
        shards = np.sort(generator.choice(shards, SAMPLED_SHARDS, replace=False))
    for shard in shards.tolist():
        own = rows[shard_of == shard] - store.spec.rows_of(shard).start
        share = SAMPLED_FILES // len(shards)
        if len(own) > share:
            own = np.sort(generator.choice(own, share, replace=False))
        yield shard, own


def _sample_bytes(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(files,) bytes of each sample."""
    return np.where(numbers[:, 3] < 0, numbers[:, 0], numbers[:, 3])
