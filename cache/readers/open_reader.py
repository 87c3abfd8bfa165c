"""From a store to a reader: which rows are wanted, which rung of the ladder holds them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epalm.cache.readers.block_shuffle_reader import BlockShuffleReader
from epalm.cache.readers.disk_readers import MappedReader, PreadReader, ShardFiles
from epalm.cache.readers.epoch_order import BLOCK_ROWS
from epalm.cache.readers.feature_source import FeatureReader, KeyIndex, Reader
from epalm.cache.readers.memory_reader import load_shards
from epalm.cache.readers.reader_choice import (
    AUTO,
    LOCAL_READERS,
    Budget,
    ReadRequirements,
    choose_reader,
    ram_budget,
)
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, UnfinishedStoreError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreSubset:
    """The part of a finished store that a command reads.

    Attributes:
        store: all of it.
        index: its keys.
        shards: the shards that hold the wanted records, ascending.
        views: how many views are wanted, from 0 on.
    """

    store: Store
    index: KeyIndex
    shards: tuple[int, ...]
    views: int

    def need(self, batch_size: int) -> ReadRequirements:
        """What it takes to read it."""
        spec = self.store.spec
        rows = sum(len(spec.rows_of(shard)) for shard in self.shards)
        vector_bytes = spec.row_bytes // spec.views
        return ReadRequirements(
            nbytes=rows * self.views * vector_bytes,
            vector_bytes=vector_bytes,
            blocks=-(-rows // BLOCK_ROWS),
            batch_size=batch_size,
        )

    def open(self, reader: str, budget: int) -> Reader:
        """A reader over it.

        Args:
            reader: one of `LOCAL_READERS`.
            budget: bytes that the pools of "stream" may take.

        Raises:
            CorruptShardError: a shard does not match its commit record. The readers that leave
                the vectors on the disk find it before they serve a row of the shard.
        """
        views = self.views if reader == "ram" else self.store.spec.views
        return Reader(self.index, self._vectors(reader, budget), views=views)

    def _vectors(self, reader: str, budget: int) -> FeatureReader:
        if reader == "ram":
            return load_shards(self.store, self.shards, views=self.views)
        files = ShardFiles(self.store)
        if reader == "mapped":
            return MappedReader(files)
        return BlockShuffleReader(files, budget) if reader == "stream" else PreadReader(files)


def index_store(store: Store, task: str = "") -> KeyIndex:
    """The keys of a finished store.

    Args:
        store: of any format and place.
        task: whose media will be asked for, for messages; empty if unknown.

    Raises:
        UnfinishedStoreError: shards are missing; says how many and how to go on.
    """
    missing = store.missing()
    if missing:
        raise UnfinishedStoreError(
            f"{store.location} misses {len(missing)} of {store.spec.shards} shards: "
            "run the same `epalm-extract` command again to complete it"
        )
    keys, failed = store.keys, store.failed()
    if strangers := failed.keys() - set(keys):
        raise CorruptShardError(
            f"{store.location}: a commit record names {min(strangers)!r}, which is no record of "
            f"the store: run `epalm-extract verify {store.location}`"
        )
    return KeyIndex(store.spec, keys, failed, location=store.location, task=task)


def select(
    store: Store, index: KeyIndex, *, keys: Sequence[str] | None = None, views: int | None = None
) -> StoreSubset:
    """The part of a store that holds some records.

    Args:
        store: finished.
        index: its keys; other records than the wanted ones are refused from now on.
        keys: of the wanted records, repeated or not; None for all.
        views: how many views, from 0 on; None for all.

    Raises:
        UnknownKeyError: a key that the store does not hold.
    """
    shards = np.arange(store.spec.shards)
    if keys is not None:
        index.limit_to(keys)
        shards = np.unique(index.find(keys) // store.spec.shard_rows)
    return StoreSubset(store, index, tuple(shards.tolist()), views or store.spec.views)


def open_reader(
    store: Store,
    *,
    reader: str = AUTO,
    budget: int | None = None,
    keys: Sequence[str] | None = None,
    views: int | None = None,
    task: str = "",
) -> Reader:
    """Open a finished store to read records in any order.

    Args:
        store: of any format and place.
        reader: one of `LOCAL_READERS`, or "auto": "ram" if the vectors fit, else "pread".
        budget: bytes of memory that vectors may take; None for half of what is free.
        keys: the records that will be asked for; None for all.
        views: how many views, from 0 on, will be asked for; None for all.
        task: see `index_store`.

    Raises:
        UnfinishedStoreError: shards are missing.
        CorruptShardError: a shard does not match its commit record.
        UnknownKeyError: a key that the store does not hold.
        UsageError: an unknown reader, or one that cannot work within the budget.
    """
    selection = select(store, index_store(store, task), keys=keys, views=views)
    allowed = Budget(ram_budget(reader) if budget is None else budget)
    choice = choose_reader(reader, selection.need(batch_size=1), allowed, readers=LOCAL_READERS)
    logger.info("%s", choice.line)
    return selection.open(choice.reader, allowed.ram)


def open_store(
    location: str | Path, *, reader: str = AUTO, keys: Sequence[str] | None = None
) -> Reader:
    """Open the finished store at a path or URL; see `open_reader`.

    Raises:
        StoreError: nothing is there, or it is no store.
    """
    return open_reader(Store.open(location), reader=reader, keys=keys)
