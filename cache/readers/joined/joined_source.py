"""Features of the same samples from several stores, joined by key into one row per sample."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import Batch, FeatureSource, KeyIndex, ReadPlan
from epalm.cache.spec import StoreSpec

BLOCK_KEYS = 1 << 16
"""Keys of a store that are looked up in another one at a time."""


class JoinedIndex:
    """The key indices of several stores; rows are those of the first store."""

    def __init__(self, indices: Sequence[KeyIndex]) -> None:
        """Join the samples of the key indices of at least two stores."""
        self.indices = tuple(indices)
        self.later = frozenset().union(*(index.later for index in indices))
        self.row_maps = tuple(_row_map(indices[0], index) for index in indices)

    def has(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample is in all stores."""
        return _all([index.has(keys) for index in self.indices])

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample could be encoded in all stores.

        Raises:
            UnknownKeyError: a key is not in all stores.
        """
        return _all([index.valid(keys) for index in self.indices])

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) rows of the first store; see `FeatureSource.rows` for the errors."""
        first, *_ = [index.rows(keys) for index in self.indices]
        return first


def _all(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """(B,) whether all masks are true."""
    every: NDArray[np.bool_] = np.logical_and.reduce(masks)
    return every


def _row_map(first: KeyIndex, other: KeyIndex) -> Rows:
    """(N,) the row of another store for each row of the first; 0 where it lacks the sample."""
    if other is first:
        return np.arange(len(first.keys))
    parts = [np.maximum(rows, 0) for rows in located_rows(first, other)]
    return np.concatenate(parts)


def located_rows(index: KeyIndex, other: KeyIndex) -> Iterator[NDArray[np.int64]]:
    """Blocks of the row in another store of each row of a store; -1 where it lacks the sample."""
    for start in range(0, len(index.keys), BLOCK_KEYS):
        yield other.locate(index.keys[start : start + BLOCK_KEYS])


class JoinedSource(Generic[Batch]):
    """A `FeatureSource` whose rows are those of several sources, one after the other.

    A row has the shape (1, W): the (L, D) features of the first store, flattened, then those of
    the next one. `epalm.model.method.joined_connectors` takes it apart.
    """

    def __init__(
        self,
        sources: Sequence[FeatureSource[Batch]],
        row_maps: Sequence[Rows],
        join: Callable[[Sequence[Batch]], Batch],
        spec: StoreSpec,
    ) -> None:
        """Join sources.

        Args:
            sources: a source for each store.
            row_maps: for each store, its row for each row of the first store.
            join: concatenates batches (B, L, D) to one (B, 1, W).
            spec: joined spec of the stores.
        """
        self.spec = spec
        self._sources = tuple(sources)
        self._row_maps = tuple(row_maps)
        self._join = join

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """See `JoinedIndex.valid`."""
        return _all([source.valid(keys) for source in self._sources])

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) rows of the first store; see `FeatureSource.rows` for the errors."""
        first, *_ = [source.rows(keys) for source in self._sources]
        return first

    def read(self, keys: Sequence[str], view: int = 0) -> Batch:
        """(B, 1, W) in the order of the keys; see `FeatureSource.read`."""
        return self._join([source.read(keys, view) for source in self._sources])

    def take(self, rows: Rows, views: Rows, out: Batch) -> None:
        """Fill `out` (B, 1, W) from (B,) rows and views; see `FeatureReader.take`."""
        plan = ReadPlan(rows, views, np.array([len(rows)], np.intp))
        target: Any = out  # arrays and tensors are assigned to in the same way
        for batch in self.stream(plan, len(rows)):
            target[:] = batch

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Batch]:
        """Batches of a plan, (batch_size, 1, W) each; see `FeatureReader.stream`."""
        streams = [
            source.stream(ReadPlan(row_map[plan.rows], plan.views, plan.pool_ends), batch_size)
            for source, row_map in zip(self._sources, self._row_maps, strict=True)
        ]
        for batches in zip(*streams, strict=True):
            yield self._join(batches)


def join_arrays(batches: Sequence[Features]) -> Features:
    """Concatenate batches (B, L, D) of several stores to one (B, 1, W), in the wider dtype."""
    return np.concatenate([batch.reshape(len(batch), 1, -1) for batch in batches], axis=2)
