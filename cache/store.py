"""The doors to a feature store: what writes it, what reads it, and how one is opened by path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from epalm.cache.spec import StoreSpec

Tokens = NDArray[np.floating]


class FeatureSink(Protocol):
    """The writing side: whole shards or nothing."""

    spec: StoreSpec

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of every row."""

    def missing(self) -> list[int]:
        """Shards without a commit record, ascending."""

    def write(self, shard: int, tokens: Tokens, errors: Mapping[str, str]) -> None:
        """Store one whole shard, then its commit record.

        Args:
            shard: its number.
            tokens: (rows of the shard, V, L, D), float32 or the store's dtype; all finite except
                the rows of failed records, which are stored as NaN whatever they hold.
            errors: key -> reason, for each record that could not be encoded.

        Raises:
            StoreError: a value that the store's dtype cannot hold, or the disk refused the write.
        """

    def finish(self) -> int:
        """Once no shard is missing, write errors.jsonl; the number of failed records."""


class FeatureSource(Protocol):
    """The reading side: rows by key."""

    spec: StoreSpec

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record could be encoded.

        Raises:
            UnknownKeyError: a key that the store does not hold.
        """

    def read(self, keys: Sequence[str], view: int = 0) -> Tokens:
        """(B, L, D) in the order asked, in the store's dtype.

        Raises:
            UnknownKeyError: a key that the store does not hold.
            StoreError: a record that could not be encoded, or a view the store does not have.
        """


def create_store(path: Path, spec: StoreSpec, keys: Sequence[str]) -> FeatureSink:
    """Create the store at `path`, or reopen it to write what it still misses.

    Raises:
        CacheMismatchError: `path` holds a store of other settings or other records.
        StoreError: the folder cannot be written.
    """
    from epalm.cache.zarr_store import ZarrStore

    return ZarrStore.create(path, spec, keys)


def open_store(path: Path) -> FeatureSource:
    """Open a finished store with all of its vectors in memory.

    Raises:
        StoreError: nothing is there, or it is no store.
        UnfinishedStoreError: shards are missing; says how many and how to go on.
        CorruptShardError: a shard does not match its commit record.
    """
    from epalm.cache.reader import MemoryReader

    return MemoryReader.load(path)
