"""Read features from one array in main memory."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import ReadPlan, batch_buffers, batches_of
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store

LOAD_THREADS = 4
"""Shards loaded in parallel; each thread waits for the disk or computes a checksum."""


class ShardMap:
    """Where each row is in an array of some of a store's shards, concatenated."""

    def __init__(self, spec: StoreSpec, shards: Sequence[int]) -> None:
        """Concatenate the shards in the given order."""
        self.spec = spec
        self._shift = np.zeros(spec.shards, np.intp)
        self._starts: dict[int, int] = {}
        self.rows = 0
        for shard in shards:
            self._starts[shard] = self.rows
            self._shift[shard] = self.rows - spec.rows_of(shard).start
            self.rows += len(spec.rows_of(shard))
        self._identity = not self._shift.any()

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Each shard with its slice of the array."""
        for shard, start in self._starts.items():
            yield shard, slice(start, start + len(self.spec.rows_of(shard)))

    def array_rows(self, rows: Rows) -> Rows:
        """(B,) the row of the array for each row of the store."""
        if self._identity:
            return rows
        return rows + self._shift[rows // self.spec.shard_rows]


class MemoryReader:
    """An array of whole shards; a batch is one `numpy.take`, the fastest gather on one core."""

    def __init__(self, features: Features, shards: ShardMap) -> None:
        """Use the array without a copy.

        Args:
            features: (rows of the shards, V, L, D), C-contiguous; V may be less than the store's.
            shards: where each row is.
        """
        self._views = features.shape[1]
        self._flat = features.reshape(-1, *features.shape[2:])
        self._shards = shards

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """See `FeatureReader.take`."""
        indices = self._shards.array_rows(rows)
        if self._views > 1:
            indices = indices * self._views + views
        self._flat.take(indices, axis=0, out=out, mode="clip")

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """See `FeatureReader.stream`."""
        ring = itertools.cycle(batch_buffers(self._shards.spec, batch_size=batch_size, count=2))
        for (rows, views), buffer in zip(batches_of(plan, batch_size), ring, strict=False):
            out = buffer[: len(rows)]
            self.take(rows, views, out)
            yield out


def load_shards(store: Store, shards: Sequence[int], *, views: int) -> MemoryReader:
    """Load shards into one array, and compare every byte with the commit records.

    Args:
        store: a finished store.
        shards: shard numbers.
        views: number of views to keep, from view 0 on.

    Raises:
        CorruptShardError: a shard does not match its commit record.
    """
    shard_map = ShardMap(store.spec, shards)
    features = np.empty((shard_map.rows, views, *store.spec.row_shape[1:]), store.spec.dtype)

    def load(shard_slice: tuple[int, slice]) -> None:
        shard, part = shard_slice
        if views == store.spec.views:
            store.read_shard(shard, features[part])
            return
        features[part] = store.load_shard(shard)[:, :views]

    with ThreadPoolExecutor(LOAD_THREADS) as threads:
        list(threads.map(load, shard_map))
    return MemoryReader(features, shard_map)
