"""The shards that are left to do, and what is handed to a process at once."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

MAX_SHARDS_PER_TASK = 8
"""Largest number of shards of a task. Within a task the next shard is decoded while the current one
is encoded and the previous one is written; between tasks a process waits for the last write."""

TASKS_PER_WORKER = 4
"""The shards left are enough for this number of tasks per process, so that all end together."""

MAX_LOSSES = 5
"""A shard is given up after this number of processes were lost with it: it may be the cause."""


class ShardQueue:
    """Hands out shards in tasks that get smaller towards the end."""

    def __init__(self, shards: Iterable[int]) -> None:
        """Take over the shards, in their order."""
        self._new = deque(shards)
        self._again: deque[int] = deque()
        self._losses: dict[int, int] = {}
        self.given_up: dict[int, str] = {}

    def __iter__(self) -> Iterator[int]:
        """The shards that no process has."""
        return iter((*self._again, *self._new))

    def __len__(self) -> int:
        return len(self._new) + len(self._again)

    def take(self, workers: int) -> tuple[int, ...]:
        """The shards of the next task; empty if none is left.

        Args:
            workers: number of processes that share the shards.
        """
        if self._again:
            return (self._again.popleft(),)
        size = len(self._new) // (TASKS_PER_WORKER * max(workers, 1))
        size = min(max(size, 1), MAX_SHARDS_PER_TASK, len(self._new))
        return tuple(self._new.popleft() for _ in range(size))

    def put_back(self, shards: Sequence[int], reason: str, *, counted: bool = True) -> None:
        """Return the unfinished shards of a lost process, to be done one at a time.

        Args:
            shards: numbers of the shards.
            reason: why the process was lost.
            counted: whether a shard may have been the cause.
        """
        for shard in shards:
            self._losses[shard] = self._losses.get(shard, 0) + counted
            if self._losses[shard] < MAX_LOSSES:
                self._again.append(shard)
            else:
                self.given_up[shard] = reason
