"""Read a store larger than memory pool by pool, in the order of an epoch.

While one pool is served, threads fill the next one. Only the needed rows and views are read, each
once per pool, and neighbors within a block by one read. The page cache is left alone, so later
epochs profit from it if the machine has free memory.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.disk_readers import READ_THREADS, PreadReader, ShardFiles
from epalm.cache.readers.epoch_order import BLOCK_ROWS, Rows
from epalm.cache.readers.feature_source import ReadPlan, batch_buffers
from epalm.errors import StoreError

TASKS_PER_THREAD = 4
"""Read tasks per thread and pool, so that no thread waits long for the slowest one."""


@dataclass(frozen=True)
class _Pool:
    """A pool that is being filled.

    Attributes:
        features: (R, L, D), complete once all reads are done.
        slots: (M,) the row of `features` for each example.
        reads: pending reads that fill it.
    """

    features: Features
    slots: Rows
    reads: list["Future[None]"]

    def wait(self) -> None:
        """Wait until the pool is complete; raises the errors of its reads."""
        for read in self.reads:
            read.result()


class BlockShuffleReader:
    """Serves plans of which two pools fit into a budget; `take` works as in `PreadReader`."""

    def __init__(self, files: ShardFiles, budget: int) -> None:
        """Set the limit.

        Args:
            files: shard files of the store.
            budget: maximum size of two pools together, in bytes.
        """
        self._files = files
        self._budget = budget
        self._random = PreadReader(files)
        self._memory: list[Features] = []

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """See `FeatureReader.take`."""
        self._random.take(rows, views, out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """See `FeatureReader.stream`."""
        ring = batch_buffers(self._files.store.spec, batch_size=batch_size, count=2)
        filled = 0
        for pool in self._pools(plan):
            served = 0
            while served < len(pool.slots):
                slots = pool.slots[served : served + batch_size - filled]
                out = ring[0][filled : filled + len(slots)]
                np.take(pool.features, slots, axis=0, out=out, mode="clip")
                served, filled = served + len(slots), filled + len(slots)
                if filled == batch_size:
                    yield ring[0]
                    ring.reverse()
                    filled = 0
        if filled:
            yield ring[0][:filled]

    def _pools(self, plan: ReadPlan) -> Iterator[_Pool]:
        """Each pool once it is complete; the next one is read meanwhile."""
        memory = self._allocate(plan)
        threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="epalm-stream")
        try:
            pending: list[_Pool] = []
            for number, indices in enumerate(self._pool_indices(plan)):
                pending.append(self._start(threads, indices, memory[number % 2]))
                if number:
                    pending[0].wait()
                    yield pending.pop(0)
            for pool in pending:
                pool.wait()
                yield pool
        finally:
            threads.shutdown(cancel_futures=True)
            self._memory = memory

    def _pool_indices(self, plan: ReadPlan) -> Iterator[Rows]:
        """The view indices (row x V + view) of each pool, in the order of serving."""
        indices = plan.rows * self._files.store.spec.views + plan.views
        return (part for part in np.split(indices, plan.pool_ends[:-1]) if len(part))

    def _allocate(self, plan: ReadPlan) -> list[Features]:
        """Two buffers for the plan's largest pool; those of the last epoch if large enough."""
        sizes = [len(np.unique(indices)) for indices in self._pool_indices(plan)]
        count = min(len(sizes), 2)
        needed = count * max(sizes, default=0) * self._files.view_bytes
        if needed > self._budget:
            raise StoreError(
                f"{count} pools of this run's order take {needed:,} bytes, but only "
                f"{self._budget:,} are available: use --reader pread, or start over with --fresh"
            )
        memory, self._memory = self._memory, []  # a concurrent epoch allocates its own
        if len(memory) < count or min(map(len, memory), default=0) < max(sizes, default=0):
            memory.clear()  # otherwise both would be in memory for a moment
            memory = batch_buffers(self._files.store.spec, batch_size=max(sizes), count=count)
        return memory

    def _start(self, threads: ThreadPoolExecutor, indices: Rows, memory: Features) -> _Pool:
        """Start to read a pool, in runs of neighbors that do not cross the end of a block."""
        needed, slots = np.unique(indices, return_inverse=True)
        block = needed // (BLOCK_ROWS * self._files.store.spec.views)
        breaks = np.flatnonzero((np.diff(needed) > 1) | (np.diff(block) > 0)) + 1
        edges = np.concatenate(([0], breaks, [len(needed)]))
        runs_per_task = -(-(len(edges) - 1) // (READ_THREADS * TASKS_PER_THREAD))
        reads = [
            threads.submit(self._read, needed, edges[first : first + runs_per_task + 1], memory)
            for first in range(0, len(edges) - 1, runs_per_task)
        ]
        return _Pool(memory, slots, reads)

    def _read(self, needed: Rows, edges: Rows, memory: Features) -> None:
        """Read the runs between the edges into the pool."""
        size = self._files.view_bytes
        raw = memory.data.cast("B")
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            self._files.read(int(needed[first]), raw[first * size : end * size])
