"""The encoder processes on a Ray cluster: started, given tasks, and replaced when they are lost."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from epalm.errors import EpalmError
from epalm.extract.engines.ray_cluster import WorkerResources
from epalm.extract.engines.shard_worker import ShardWorker
from epalm.extract.engines.worker_messages import OpenedStore, WorkerSetup

PROGRESS = "progress"
"""Concurrency group of Ray in which a process reports its progress while it encodes."""


@dataclass(eq=False)
class RayWorker:
    """An encoder process.

    Attributes:
        actor: Ray's handle of the process.
        call: the running call; None while the process is idle.
        shards: the shards that it encodes.
        samples: number of samples of these that the display has counted.
        seen: number of samples of these that the process has reported.
        ready: whether it has opened the store.
        task: number of tasks that it was given.
        poll: the running request for progress.
    """

    actor: Any
    call: Any = None
    shards: tuple[int, ...] = ()
    samples: int = 0
    seen: int = 0
    ready: bool = False
    task: int = 0
    poll: Any = None


@dataclass(frozen=True)
class Lost:
    """A process that does not exist any more.

    Attributes:
        reason: why, in one line.
        preempted: whether the machine was taken away, so that no shard is the cause.
    """

    reason: str
    preempted: bool


@dataclass
class RayWorkers:
    """All encoder processes of a run.

    Attributes:
        ray: Ray's module.
        setup: what each process is started with.
        resources: what Ray reserves for each.
        all: the processes that are believed to run.
    """

    ray: ModuleType
    setup: WorkerSetup
    resources: WorkerResources
    all: list[RayWorker] = field(default_factory=list)

    def start(self) -> RayWorker:
        """Start a process; it waits until the cluster has the resources for it."""
        kind = self.ray.remote(
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            max_restarts=0,
            concurrency_groups={PROGRESS: 1},
        )(ShardWorker)
        worker = RayWorker(kind.remote(self.setup))
        self.all.append(worker)
        return worker

    def fitting(self) -> int:
        """Number of processes that fit on the cluster as it is now, at least one."""
        return max(1, self.resources.fitting(self.ray.cluster_resources()))

    def open(self, worker: RayWorker, known: OpenedStore | None) -> None:
        """Let a process open the store."""
        worker.call = worker.actor.open.remote(known)

    def encode(
        self, worker: RayWorker, shards: tuple[int, ...], reencode: Mapping[int, Sequence[int]]
    ) -> None:
        """Let a process encode shards."""
        worker.shards, worker.samples, worker.seen = shards, 0, 0
        worker.task += 1
        again = {shard: reencode[shard] for shard in shards if shard in reencode}
        worker.call = worker.actor.encode.remote(shards, again)

    def ask_progress(self) -> None:
        """Request the progress of every process that has not yet answered the last request."""
        for worker in self.all:
            if worker.call is not None and worker.poll is None:
                progress = worker.actor.progress.options(concurrency_group=PROGRESS)
                worker.poll = progress.remote()

    def ended(self, seconds: float) -> Iterator[tuple[RayWorker, Any]]:
        """Wait for calls; each process whose call has ended, with its result or `Lost`.

        Args:
            seconds: longest time to wait.

        Raises:
            EpalmError: a process raised it.
        """
        calls = {worker.call: worker for worker in self.all if worker.call is not None}
        for call in self._ready(calls, seconds):
            worker = calls[call]
            worker.call = None
            result = self._result(call)
            if isinstance(result, Lost):
                self.remove(worker)
            yield worker, result

    def answered(self) -> Iterator[tuple[RayWorker, Any]]:
        """Each process that has answered a request for its progress, with the answer."""
        polls = {worker.poll: worker for worker in self.all if worker.poll is not None}
        for poll in self._ready(polls, 0):
            polls[poll].poll = None
            result = self._result(poll)
            if not isinstance(result, Lost):  # its call ends with the same
                yield polls[poll], result

    def _ready(self, calls: Mapping[Any, RayWorker], seconds: float) -> Sequence[Any]:
        """The calls that have ended, once the first has, or after a time."""
        if not calls:
            return ()
        ready, _ = self.ray.wait(list(calls), num_returns=1, timeout=seconds)
        if len(ready) < len(calls):  # others may have ended in the meantime
            ready, _ = self.ray.wait(list(calls), num_returns=len(calls), timeout=0)
        return list(ready)

    def remove(self, worker: RayWorker) -> None:
        """End a process."""
        self.all.remove(worker)
        with suppress(Exception):  # it is lost already, or Ray is
            self.ray.kill(worker.actor)

    def end(self) -> None:
        """End all processes; each discards its current shard."""
        for worker in list(self.all):
            self.remove(worker)

    def _result(self, call: Any) -> Any:  # noqa: ANN401 - whatever the method returns
        errors = self.ray.exceptions
        try:
            return self.ray.get(call)
        except errors.RayTaskError as error:
            if isinstance(error.cause, EpalmError):
                raise error.cause from None
            raise
        except errors.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return Lost(" ".join(lines[:1] + lines[-1:]), bool(getattr(error, "preempted", False)))
