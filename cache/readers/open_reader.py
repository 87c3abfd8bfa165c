"""Open a finished store for reading: select the needed part of it, then choose a reader."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epalm.cache.readers.block_shuffle_reader import BlockShuffleReader
from epalm.cache.readers.disk_readers import MappedReader, PreadReader, ShardFiles
from epalm.cache.readers.epoch_order import BLOCK_ROWS
from epalm.cache.readers.feature_source import FeatureReader, KeyIndex, StoreReader
from epalm.cache.readers.memory_reader import load_shards
from epalm.cache.readers.reader_choice import (
    AUTO,
    LOCAL_READERS,
    Budget,
    ReadRequirements,
    choose_reader,
    fit_window,
    ram_budget,
)
from epalm.cache.storage.local_copies import copies_limit
from epalm.cache.store import Store
from epalm.errors import CorruptShardError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreSubset:
    """The part of a finished store that a command reads.

    Attributes:
        store: the whole store.
        index: keys of the store.
        shards: numbers of the shards with the needed rows, ascending.
        views: number of views to read, from view 0 on.
    """

    store: Store
    index: KeyIndex
    shards: tuple[int, ...]
    views: int

    def requirements(self, batch_size: int) -> ReadRequirements:
        """Size of the subset, from which a reader is chosen."""
        spec = self.store.spec
        rows = sum(len(spec.rows_of(shard)) for shard in self.shards)
        view_bytes = spec.row_bytes // spec.views
        window = shuffle_window([self], row_bytes=spec.row_bytes, shards=len(self.shards))
        return ReadRequirements(
            nbytes=rows * self.views * view_bytes,
            view_bytes=view_bytes,
            blocks=-(-rows // BLOCK_ROWS),
            batch_size=batch_size,
            **window,
        )

    def open(self, reader: str, budget: int) -> StoreReader:
        """Open a reader.

        Args:
            reader: one of `LOCAL_READERS`.
            budget: maximum size of the pools of reader "stream", in bytes.

        Raises:
            CorruptShardError: a shard does not match its commit record. Readers that leave the
                features on the disk raise it before they serve a row of the shard.
        """
        views = self.views if reader == "ram" else self.store.spec.views
        return StoreReader(self.index, self._feature_reader(reader, budget), views=views)

    def _feature_reader(self, reader: str, budget: int) -> FeatureReader:
        if reader == "ram":
            return load_shards(self.store, self.shards, views=self.views)
        files = ShardFiles(self.store)
        if reader == "mapped":
            return MappedReader(files)
        return BlockShuffleReader(files, budget) if reader == "stream" else PreadReader(files)


def shuffle_window(
    subsets: Sequence[StoreSubset], *, row_bytes: int, shards: int
) -> dict[str, int]:
    """The windows of a block shuffle over some stores, as fields of `ReadRequirements`.

    Args:
        subsets: the stores; windows are made of shards of the first one.
        row_bytes: size of a row in all stores that it is read from.
        shards: number of shards.
    """
    rows = subsets[0].store.spec.shard_rows
    remote = any(subset.store.storage.makes_copies for subset in subsets)
    window = fit_window(rows * row_bytes, shards, copies_limit() if remote else None)
    return {"window_shards": window, "shard_blocks": rows // BLOCK_ROWS if window else 0}


def index_store(store: Store, task: str = "") -> KeyIndex:
    """Index the keys of a finished store.

    Args:
        store: a store of any format, at a path or URL.
        task: name of the task that needs the features, for error messages; "" if unknown.

    Raises:
        UnfinishedStoreError: shards are missing.
        CorruptShardError: a commit record names a sample that is not in the store.
    """
    failed, table = store.failed_samples(store.check_complete()), store.key_table
    unknown = np.flatnonzero(table.find([*failed]) < 0)
    if len(unknown):
        raise CorruptShardError(
            f"{store.location}: a commit record names {[*failed][unknown[0]]!r}, which is not in "
            f"the store: run `epalm-extract verify {store.location}`"
        )
    return KeyIndex(
        store.spec, table, failed, location=store.location, task=task, later=store.later_keys
    )


def select_subset(
    store: Store, index: KeyIndex, *, keys: Sequence[str] | None = None, views: int | None = None
) -> StoreSubset:
    """Select the shards of a store with the needed samples.

    Args:
        store: a finished store.
        index: keys of the store; from now on it refuses samples that are not selected.
        keys: keys of the needed samples, may repeat; None for all.
        views: number of views, from view 0 on; None for all.

    Raises:
        UnknownKeyError: a key is not in the store.
    """
    shards = np.arange(store.spec.shards)
    if keys is not None:
        shards = np.unique(index.limit_to(keys) // store.spec.shard_rows)
    return StoreSubset(store, index, tuple(shards.tolist()), views or store.spec.views)


def open_reader(
    store: Store,
    *,
    reader: str = AUTO,
    budget: int | None = None,
    keys: Sequence[str] | None = None,
    views: int | None = None,
    task: str = "",
) -> StoreReader:
    """Open a finished store to read samples in any order.

    Args:
        store: a store of any format, at a path or URL.
        reader: one of `LOCAL_READERS`, or "auto": "ram" if the features fit, otherwise "pread".
        budget: bytes of memory available for features; None for half of the free memory.
        keys: keys of the samples that will be read; None for all.
        views: number of views that will be read, from view 0 on; None for all.
        task: name of the task that needs the features, for error messages; "" if unknown.

    Raises:
        UnfinishedStoreError: shards are missing.
        CorruptShardError: a shard does not match its commit record.
        UnknownKeyError: a key is not in the store.
        UsageError: the reader is unknown, or cannot work within the budget.
    """
    subset = select_subset(store, index_store(store, task), keys=keys, views=views)
    available = Budget(ram_budget(reader) if budget is None else budget)
    requirements = subset.requirements(batch_size=1)
    choice = choose_reader(reader, requirements, available, readers=LOCAL_READERS)
    logger.info("%s", choice.summary)
    return subset.open(choice.reader, available.ram)


def open_store(
    location: str | Path, *, reader: str = AUTO, keys: Sequence[str] | None = None
) -> StoreReader:
    """Open the finished store at a path or URL to read features by key.

    >>> open_store("cache/coco_vitb16.zarr").read(["000000000042.jpg"])  # (1, L, D)

    Args:
        location: path or URL.
        reader: one of the readers of `open_reader`.
        keys: keys of the samples that will be read; None for all.

    Raises:
        StoreError: there is no store, or it cannot be read; see `open_reader`.
    """
    return open_reader(Store.open(location), reader=reader, keys=keys)
