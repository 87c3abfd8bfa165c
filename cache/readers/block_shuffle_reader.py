"""Vectors of a store larger than memory, read pool by pool in the order of an epoch.

While one pool is served, threads fill the other. Only rows that are asked for are read, only in
the view that is asked for, each once per pool; neighbours within a block come by one read. What
the page cache holds is not dropped: on a machine with memory left, later epochs profit from it.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from epalm.cache.formats.store_format import Tokens
from epalm.cache.readers.disk_readers import READ_THREADS, PreadReader, ShardFiles
from epalm.cache.readers.epoch_order import BLOCK_ROWS, Rows
from epalm.cache.readers.feature_source import ReadPlan, buffers
from epalm.errors import StoreError

TASKS_PER_THREAD = 4
"""Portions per thread that a pool is read in, so that no thread waits long for the slowest."""


@dataclass(frozen=True)
class _Pool:
    """A pool that is being filled.

    Attributes:
        vectors: (R, L, D), whole once all reads are done.
        slots: (M,) which of them each example gets.
        reads: what fills it.
    """

    vectors: Tokens
    slots: Rows
    reads: list["Future[None]"]

    def wait(self) -> None:
        """Return when it is full; raises what a read raised."""
        for read in self.reads:
            read.result()


class BlockShuffleReader:
    """Serves plans of which two pools fit a budget; single rows come by `PreadReader`."""

    def __init__(self, files: ShardFiles, budget: int) -> None:
        """Remember the limit.

        Args:
            files: of the store.
            budget: bytes that two pools may take together.
        """
        self._files = files
        self._budget = budget
        self._random = PreadReader(files)
        self._memory: list[Tokens] = []

    def take(self, rows: Rows, views: Rows, out: Tokens) -> None:
        """See `Vectors.take`."""
        self._random.take(rows, views, out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tokens]:
        """See `Vectors.stream`."""
        ring = buffers(self._files.store.spec, batch_size=batch_size, count=2)
        filled = 0
        for pool in self._pools(plan):
            served = 0
            while served < len(pool.slots):
                slots = pool.slots[served : served + batch_size - filled]
                out = ring[0][filled : filled + len(slots)]
                np.take(pool.vectors, slots, axis=0, out=out, mode="clip")
                served, filled = served + len(slots), filled + len(slots)
                if filled == batch_size:
                    yield ring[0]
                    ring.reverse()
                    filled = 0
        if filled:
            yield ring[0][:filled]

    def _pools(self, plan: ReadPlan) -> Iterator[_Pool]:
        """Each pool once it is full; the next one is being read while it is in use."""
        self._files.check(plan.rows)
        memory = self._allocate(plan)
        threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="epalm-stream")
        try:
            waiting: list[_Pool] = []
            for turn, numbers in enumerate(self._numbers(plan)):
                waiting.append(self._start(threads, numbers, memory[turn % 2]))
                if turn:
                    waiting[0].wait()
                    yield waiting.pop(0)
            for pool in waiting:
                pool.wait()
                yield pool
        finally:
            threads.shutdown(cancel_futures=True)
            self._memory = memory

    def _numbers(self, plan: ReadPlan) -> Iterator[Rows]:
        """The vector numbers (row x V + view) of each pool, in the order of serving."""
        numbers = plan.rows * self._files.store.spec.views + plan.views
        return (part for part in np.split(numbers, plan.pool_ends[:-1]) if len(part))

    def _allocate(self, plan: ReadPlan) -> list[Tokens]:
        """Two pools of the plan's largest, from the last pass if they are large enough."""
        sizes = [len(np.unique(numbers)) for numbers in self._numbers(plan)]
        count = min(len(sizes), 2)
        needed = count * max(sizes, default=0) * self._files.vector_bytes
        if needed > self._budget:
            raise StoreError(
                f"{count} pools of this run's order take {needed:,} bytes, {self._budget:,} are "
                "free for them: use --reader pread, or start over with --fresh"
            )
        memory, self._memory = self._memory, []  # another pass at the same time takes its own
        if len(memory) < count or min(map(len, memory), default=0) < max(sizes, default=0):
            memory.clear()  # else both would be held for a moment
            memory = buffers(self._files.store.spec, batch_size=max(sizes), count=count)
        return memory

    def _start(self, threads: ThreadPoolExecutor, numbers: Rows, memory: Tokens) -> _Pool:
        """Begin to read a pool, in runs of neighbouring vectors that end with their block."""
        wanted, slots = np.unique(numbers, return_inverse=True)
        block = wanted // (BLOCK_ROWS * self._files.store.spec.views)
        breaks = np.flatnonzero((np.diff(wanted) > 1) | (np.diff(block) > 0)) + 1
        edges = np.concatenate(([0], breaks, [len(wanted)]))
        share = -(-(len(edges) - 1) // (READ_THREADS * TASKS_PER_THREAD))
        reads = [
            threads.submit(self._read, wanted, edges[first : first + share + 1], memory)
            for first in range(0, len(edges) - 1, share)
        ]
        return _Pool(memory, slots, reads)

    def _read(self, wanted: Rows, edges: Rows, memory: Tokens) -> None:
        """Read the runs between the edges to their places in the pool."""
        size = self._files.vector_bytes
        raw = memory.data.cast("B")
        for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            self._files.read(int(wanted[first]), raw[first * size : end * size])
