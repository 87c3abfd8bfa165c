"""One extraction on a Ray cluster: shards are handed out until none is left."""

import logging
import time

from epalm.cache.store import Store
from epalm.console import Ticker, counted, progress
from epalm.errors import EpalmError, UnfinishedStoreError
from epalm.extract.engines.ray_workers import Lost, RayWorker, RayWorkers
from epalm.extract.engines.shard_queue import MAX_LOSSES, ShardQueue
from epalm.extract.engines.worker_messages import OpenedStore, TaskReport
from epalm.extract.planning.extraction_result import stopped_error
from epalm.media.decode_damage import note_damage

POLL_SECONDS = 1.0
"""Time between two updates of the progress display and of the number of processes."""

WAIT_SECONDS = 30.0
"""Time without any process after which the log says what the run waits for."""

MAX_FAILED_STARTS = 3
"""Number of processes in a row that may be lost before they have opened the store; then the run
ends."""

logger = logging.getLogger(__name__)


def open_store(workers: RayWorkers) -> OpenedStore:
    """Start the first process, which creates or opens the store for all others.

    Raises:
        EpalmError: as `epalm-extract`, or no process can be started.
    """
    started, waiting = time.monotonic(), True
    lost = Lost("", preempted=False)
    for _ in range(MAX_FAILED_STARTS):
        workers.open(workers.start(), None)
        while workers.all and workers.all[0].call is not None:
            workers.ask_progress()
            for _worker, result in workers.ended(POLL_SECONDS):
                pass_on_messages(workers)
                if isinstance(result, OpenedStore):
                    return result
                lost = result
            waiting = not pass_on_messages(workers) and waiting
            if waiting and time.monotonic() - started > WAIT_SECONDS:
                logger.warning("waiting until the cluster has %s free", workers.resources)
                waiting = False
    raise _no_start(lost)


def pass_on_messages(workers: RayWorkers) -> int:
    """Log the messages of all processes; the number of processes that have answered."""
    answers = list(workers.answered())
    for worker, answer in answers:
        if answer.task == worker.task:
            worker.seen = answer.samples
        for level, text in answer.log:
            logger.log(level, "%s", text)
    return len(answers)


class RayRun:
    """The shards of a run, and the processes that encode them.

    Attributes:
        opened: the store, as the first process has opened it.
        store: the same store.
        samples: number of samples to encode.
        reports: what finished tasks have reported.
    """

    def __init__(self, workers: RayWorkers, opened: OpenedStore, limit: int | None) -> None:
        """List the shards to encode.

        Args:
            workers: the processes; the first one has opened the store.
            opened: the store.
            limit: number of processes; None for as many as fit on the cluster.
        """
        self.workers, self.opened, self.limit = workers, opened, limit
        self.store = Store.at(opened.location, opened.store_format).latest()
        store = self.store
        self._rows = {shard: store.missing_rows(shard) for shard in store.missing_shards()}
        for shard, unchanged in opened.reencode.items():
            self._rows[shard] = len(store.spec.rows_of(shard)) - len(unchanged)
        self.samples = sum(self._rows.values())
        self.reports: list[TaskReport] = []
        self._queue = ShardQueue(sorted(self._rows))
        self._failed_starts = 0
        for worker in workers.all:
            worker.ready = True

    def encode(self, *, quiet: bool) -> None:
        """Encode all shards.

        Args:
            quiet: show no progress.

        Raises:
            EpalmError: a process raised it.
            Stopped: Ctrl-C or a termination signal; the same run resumes.
            UnfinishedStoreError: shards are missing, since every process that had them was lost.
        """
        unit = self.opened.unit
        try:
            with progress("encoding", total=self.samples, unit=unit, quiet=quiet) as tick:
                while self._queue or self._encoding():
                    self._start_workers()
                    self._hand_out()
                    self.workers.ask_progress()
                    for worker, result in self.workers.ended(POLL_SECONDS):
                        self._ended(worker, result, tick)
                    self._show(tick)
            pass_on_messages(self.workers)
        except KeyboardInterrupt as stop:
            left = {*self.store.missing_shards(), *self._queue, *self._encoding()}
            raise stopped_error(len(left), self.store.spec.shards) from stop
        self._check_complete()

    def _encoding(self) -> list[int]:
        """The shards that processes have."""
        return [shard for worker in self.workers.all for shard in worker.shards]

    def _start_workers(self) -> None:
        """Start processes that the cluster has room for, and that have something to do."""
        busy = sum(bool(worker.shards) for worker in self.workers.all)
        wanted = min(self.limit or self.workers.fitting(), busy + len(self._queue))
        for _ in range(wanted - len(self.workers.all)):
            self.workers.open(self.workers.start(), self.opened)

    def _hand_out(self) -> None:
        count = len(self.workers.all)
        for worker in self.workers.all:
            if worker.ready and worker.call is None and self._queue:
                self.workers.encode(worker, self._queue.take(count), self.opened.reencode)

    def _ended(self, worker: RayWorker, result: object, tick: Ticker) -> None:
        if isinstance(result, Lost):
            self._lost(worker, result, tick)
        elif isinstance(result, TaskReport):
            self.reports.append(result)
            for note in result.damage:
                note_damage(note)
            failed = sum(report.failed for report in self.reports)
            rows = sum(self._rows[shard] for shard in worker.shards)
            tick(rows - worker.samples, f"{failed} failed" if failed else "")
            worker.shards = ()
        else:
            worker.ready, self._failed_starts = True, 0

    def _lost(self, worker: RayWorker, lost: Lost, tick: Ticker) -> None:
        """Encode the shards of a lost process again, unless it has finished them."""
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise _no_start(lost)
            return
        left = [
            shard
            for shard in worker.shards
            if shard in self.opened.reencode or not self.store.has_shard(shard)
        ]
        logger.warning(
            "an encoder was lost (%s): %s will be encoded again",
            lost.reason,
            counted(len(left), "shard"),
        )
        done = sum(self._rows[shard] for shard in worker.shards if shard not in left)
        tick(done - worker.samples)
        self._queue.put_back(left, lost.reason, counted=not lost.preempted)

    def _show(self, tick: Ticker) -> None:
        """Advance the display by what the processes have encoded since the last time."""
        pass_on_messages(self.workers)
        for worker in self.workers.all:
            if worker.shards and worker.seen > worker.samples:
                tick(worker.seen - worker.samples)
                worker.samples = worker.seen

    def _check_complete(self) -> None:
        """Refuse to end with shards that were given up.

        Raises:
            UnfinishedStoreError: names them.
        """
        if given_up := self._queue.given_up:
            shard, reason = next(iter(given_up.items()))
            raise UnfinishedStoreError(
                f"{counted(len(given_up), 'shard')} of {self.opened.location} could not be "
                f"encoded: shard {shard} lost {MAX_LOSSES} encoders ({reason}). The others "
                "are finished. Run the same command again; if memory was short, with a smaller "
                "--batch-size, or a larger --cpus-per-worker for fewer encoders on a machine"
            )


def _no_start(lost: Lost) -> EpalmError:
    return EpalmError(
        f"no encoder could be started on the cluster ({lost.reason}): install the same version of "
        "epalm, Python and Ray on all its machines"
    )
