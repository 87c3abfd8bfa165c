"""Workers that die, stall and come back, and fill a store with the code of an extraction.

Real: `plan_jobs`, `ProcessShard`, `Job`, `initial_tokens`, `initial_errors`, `Store.has_shard`,
`write_result` and `Store.write_shard` with their commit records, `finish_or_count`, `Store.finish`,
listings, summaries, `FsspecStorage` and its retries. Simulated: time, the object store, and the
encoder, which takes time in proportion to the samples and returns the number of each row.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import cast

import numpy as np

from bench.support.simulation.virtual_time import Killed, SimulatedProcess, VirtualTime
from epalm.cache.formats.store_format import Features
from epalm.cache.records.media_table import MediaTable
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import StoreError
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.planning.shard_jobs import Job, initial_errors, initial_tokens, plan_jobs
from epalm.extract.planning.store_rows import RowItems
from epalm.extract.run_extraction import EncodedShard, finish_or_count, write_result

DIGIT = 1024
"""A row is three digits in this base, each of which float16 represents exactly."""

FAILING = 9973
"""Every 9973rd sample cannot be decoded."""

ENCODE_STEPS = 8
"""Parts of the encoding of a shard."""


@dataclass(frozen=True)
class WorkerFaults:
    """What happens to workers.

    Attributes:
        life_seconds: mean time until a worker is killed; 0 if none is.
        gone: fraction of killed workers that never come back.
        back_seconds: longest time until one comes back, or one that ended with an error.
        stall_seconds: mean time until a worker stalls; 0 if none does.
        stalled_seconds: longest time that it stalls.
        patience_seconds: time after which a second process gets the rank of a stalled worker.
    """

    life_seconds: float = 0.0
    gone: float = 0.0
    back_seconds: float = 600.0
    stall_seconds: float = 0.0
    stalled_seconds: float = 3600.0
    patience_seconds: float = 900.0


@dataclass
class ClusterLog:
    """What the workers did.

    Attributes:
        started: number of processes that were started.
        killed: number of these that were killed.
        stalled: number of times that a process froze.
        failed: name of an error -> number of processes that it ended.
        encoding: seconds that processes encoded, in all.
        encoded: shard -> seconds of its first encoding that was committed.
        attempts: shard -> number of times that it was encoded completely.
        committed: shard -> time at which its commit record was written first.
        rounds: number of times that somebody started tasks for missing shards at the end.
    """

    started: int = 0
    killed: int = 0
    stalled: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    encoding: float = 0.0
    encoded: dict[int, float] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    committed: dict[int, float] = field(default_factory=dict)
    rounds: int = 0

    @property
    def lost(self) -> float:
        """Fraction of the encoding that no committed shard has."""
        return 1 - sum(self.encoded.values()) / self.encoding


class Cluster:
    """Workers with ranks 0 to W - 1, and whoever restarts them."""

    def __init__(
        self,
        clock: VirtualTime,
        open_store: Callable[[], Store],
        *,
        workers: int,
        faults: WorkerFaults,
        samples_per_second: float,
        seed: int,
    ) -> None:
        """Describe the cluster.

        Args:
            clock: the virtual time.
            open_store: what a new process does to open, or create, the store.
            workers: number of workers.
            faults: what happens to them.
            samples_per_second: mean speed of a worker; each has its own between half and twice it.
            seed: seed of everything random.
        """
        self.clock, self.log = clock, ClusterLog()
        self._open_store, self._workers, self._faults = open_store, workers, faults
        self._random = Random(seed)
        self._speeds = [
            samples_per_second * 2 ** self._random.uniform(-1, 1) for _ in range(workers)
        ]

    def fill(self) -> None:
        """Run all workers to their end, then tasks for the missing shards until none is missing."""
        for rank in range(self._workers):
            self._start(ProcessShard(rank, self._workers), self._speeds[rank])
        self.clock.run()
        while missing := self._unfinished():
            self.log.rounds += 1
            for task in missing:
                self._start(task, self._speeds[task.rank % self._workers])
            self.clock.run()

    def _unfinished(self) -> list[ProcessShard]:
        """A task per missing shard, as `status --missing` gives them; one to finish the store."""
        try:
            store = self._open_store()
            missing = store.missing_shards()
            finished = store.storage.size(store.private_name("errors.jsonl")) is not None
        except StoreError:  # the person runs the command again
            return self._unfinished()
        shards = missing or ([] if finished else [0])
        return [ProcessShard(shard, store.spec.shards) for shard in shards]

    def _start(self, place: ProcessShard, speed: float, *, delay: float = 0.0) -> None:
        def end(process: SimulatedProcess) -> None:
            self._ended(process, place, speed)

        self.log.started += 1
        process = self.clock.start(lambda: self._work(place, speed), end, delay=delay)
        self._schedule_faults(process, place, speed, delay)

    def _schedule_faults(
        self, process: SimulatedProcess, place: ProcessShard, speed: float, delay: float
    ) -> None:
        faults, begin = self._faults, self.clock.now + delay
        if faults.life_seconds:
            death = begin + self._random.expovariate(1 / faults.life_seconds)
            self.clock.at(death, lambda: self._kill(process))
        if faults.stall_seconds:
            stall = begin + self._random.expovariate(1 / faults.stall_seconds)
            self.clock.at(stall, lambda: self._stall(process, place, speed))

    def _kill(self, process: SimulatedProcess) -> None:
        self.log.killed += self.clock.kill(process)

    def _stall(self, process: SimulatedProcess, place: ProcessShard, speed: float) -> None:
        seconds = self._random.uniform(0, self._faults.stalled_seconds)
        if not self.clock.stall(process, seconds):
            return
        self.log.stalled += 1
        if seconds > self._faults.patience_seconds:  # a second process gets the same shards
            self._start(place, speed, delay=self._faults.patience_seconds)

    def _ended(self, process: SimulatedProcess, place: ProcessShard, speed: float) -> None:
        if process.error is None:
            return
        killed = isinstance(process.error, Killed)
        if not killed:
            self.log.failed[type(process.error).__name__] += 1
        if killed and self._random.random() < self._faults.gone:
            return
        self._start(place, speed, delay=self._random.uniform(0, self._faults.back_seconds))

    def _work(self, place: ProcessShard, speed: float) -> None:
        """The life of a process, as in `epalm.extract.run_extraction.extract`."""
        store = self._open_store()
        items = cast(RowItems, range(store.spec.count))  # planning asks only which are None
        jobs = plan_jobs(store, items, place, {})
        for job in tuple(jobs):
            if store.has_shard(job.shard):  # written by another process
                continue
            result, seconds = self._encode(store, job, speed)
            write_result(store, job, result=result, jobs=jobs)
            self.log.encoded.setdefault(job.shard, seconds)
            self.log.committed.setdefault(job.shard, self.clock.now)
        finish_or_count(store)

    def _encode(self, store: Store, job: Job, speed: float) -> tuple[EncodedShard, float]:
        started = self.clock.now
        try:
            for _ in range(ENCODE_STEPS):
                self.clock.sleep(len(job.rows) / speed / ENCODE_STEPS)
        finally:
            self.log.encoding += self.clock.now - started
        self.log.attempts[job.shard] += 1
        rows = store.spec.rows_of(job.shard)
        tokens, errors = initial_tokens(store, job), initial_errors(job, ())
        chosen = np.asarray(job.rows)
        tokens[chosen] = row_features(chosen + rows.start)
        errors |= {store.keys[row]: "cannot be decoded" for row in failing_rows(rows)}
        media: MediaTable | None = None
        return EncodedShard(tokens, errors, media), self.clock.now - started  # type: ignore[arg-type]


def cluster_spec(count: int, shard_rows: int) -> StoreSpec:
    """A store with the number of each row as its features."""
    return StoreSpec(
        dataset="synthetic",
        encoder="null",
        fingerprint={"code": "simulation"},
        layers=(0,),
        width=3,
        count=count,
        shard_rows=shard_rows,
    )


def row_features(rows: np.ndarray) -> Features:
    """(B, 1, 1, 3) the three digits of each row."""
    digits = (rows // DIGIT**2, rows // DIGIT % DIGIT, rows % DIGIT)
    return np.stack(digits, axis=-1).astype(np.float16)[:, None, None, :]


def feature_rows(features: Features) -> np.ndarray:
    """(B,) the row that features name; -1 for NaN."""
    digits = np.nan_to_num(features[:, 0, 0].astype(np.float64), nan=-1).astype(np.int64)
    rows = digits[:, 0] * DIGIT**2 + digits[:, 1] * DIGIT + digits[:, 2]
    return np.where(digits[:, 0] < 0, -1, rows)


def failing_rows(rows: range) -> range:
    """The rows whose sample cannot be decoded."""
    return range(rows.start + (FAILING - 1 - rows.start) % FAILING, rows.stop, FAILING)
