"""Vectors that all lie in one array in memory."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from epalm.cache.formats.store_format import Tokens
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import KeyIndex, Reader, ReadPlan, batches_of, buffers
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import StoreError

LOAD_THREADS = 4
"""Shards read at once; each thread waits for the disk or computes a checksum."""


class ShardMap:
    """Where rows lie in an array that holds some of a store's shards, one behind the other."""

    def __init__(self, spec: StoreSpec, shards: Sequence[int]) -> None:
        """Lay the shards out in the order given."""
        self.spec = spec
        self._shift = np.zeros(spec.shards, np.intp)
        self._starts: dict[int, int] = {}
        self.rows = 0
        for shard in shards:
            self._starts[shard] = self.rows
            self._shift[shard] = self.rows - spec.rows_of(shard).start
            self.rows += len(spec.rows_of(shard))
        self._dense = not self._shift.any()

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        """Each shard with its part of the array."""
        for shard, start in self._starts.items():
            yield shard, slice(start, start + len(self.spec.rows_of(shard)))

    def places(self, rows: Rows) -> Rows:
        """(B,) where each row of the store lies in the array."""
        if self._dense:
            return rows
        return rows + self._shift[rows // self.spec.shard_rows]


class MemoryReader:
    """An array of whole shards; a gather is one `numpy.take`, the fastest there is on one core."""

    def __init__(self, tokens: Tokens, shards: ShardMap) -> None:
        """Take the vectors as they are.

        Args:
            tokens: (rows of the shards, V, L, D), C-contiguous; V may be less than the store's.
            shards: where each row lies.
        """
        self._views = tokens.shape[1]
        self._flat = tokens.reshape(-1, *tokens.shape[2:])
        self._shards = shards

    def take(self, rows: Rows, views: Rows, out: Tokens) -> None:
        """See `Vectors.take`."""
        places = self._shards.places(rows)
        if self._views > 1:
            places = places * self._views + views
        self._flat.take(places, axis=0, out=out, mode="clip")

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tokens]:
        """See `Vectors.stream`."""
        ring = itertools.cycle(buffers(self._shards.spec, batch_size=batch_size, count=2))
        for (rows, views), buffer in zip(batches_of(plan, batch_size), ring, strict=False):
            out = buffer[: len(rows)]
            self.take(rows, views, out)
            yield out


def load_shard(store: Store, shard: int) -> Tokens:
    """(rows, V, L, D): one shard.

    Nothing is allocated before the file is known to be as large as its vectors, so that a spec
    that promises more than there is takes no memory.

    Raises:
        UnfinishedStoreError: the shard is missing.
        CorruptShardError: its file does not match the commit record, or both are too small.
    """
    rows, spec, extent = len(store.spec.rows_of(shard)), store.spec, store.extent(shard)
    held = extent.path.stat().st_size - extent.offset if extent.path.is_file() else 0
    if held < rows * spec.row_bytes:
        store.check(shard)  # raises
    tokens = np.empty((rows, *spec.row_shape), spec.dtype)
    store.read_shard(shard, tokens)
    return tokens


def load_shards(store: Store, shards: Sequence[int], *, views: int) -> MemoryReader:
    """Read shards straight into one array, checking every byte.

    Args:
        store: finished.
        shards: which ones.
        views: how many views to keep, from 0 on.

    Raises:
        CorruptShardError: a shard does not match its commit record.
    """
    layout = ShardMap(store.spec, shards)
    tokens = np.empty((layout.rows, views, *store.spec.row_shape[1:]), store.spec.dtype)

    def load(part: tuple[int, slice]) -> None:
        shard, place = part
        if views == store.spec.views:
            store.read_shard(shard, tokens[place])
            return
        tokens[place] = load_shard(store, shard)[:, :views]

    with ThreadPoolExecutor(LOAD_THREADS) as threads:
        list(threads.map(load, layout))
    return MemoryReader(tokens, layout)


def memory_reader(spec: StoreSpec, keys: Sequence[str], tokens: Tokens) -> Reader:
    """A reader without a disk.

    Args:
        spec: what the vectors are.
        keys: N keys.
        tokens: (N, V, L, D), the store's dtype; rows of NaN are failed records.
    """
    if tokens.shape != spec.shape or len(keys) != spec.count:
        raise StoreError(f"{len(keys)} keys and {tokens.shape} tokens do not fit {spec.shape}")
    failed = [keys[row] for row in np.flatnonzero(np.isnan(tokens[:, 0, 0, 0])).tolist()]
    vectors = MemoryReader(tokens, ShardMap(spec, range(spec.shards)))
    return Reader(KeyIndex(spec, keys, failed), vectors)
