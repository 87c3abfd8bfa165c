"""The thread that encodes samples and answers questions, for all waiting requests at once."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from epalm.ask.run_model import Model
from epalm.errors import EpalmError
from epalm.model.checkpoints.adapter_io import LoadedRun
from epalm.serve.engine.job_answers import CheckedJob, answer_group, check_job
from epalm.serve.engine.jobs import Job, JobResult, distinct

logger = logging.getLogger(__name__)

BatchObserver = Callable[[int, float], object]
"""Called with the number of jobs of a batch and the seconds that it took."""


class ModelThread:
    """Takes the jobs that wait, up to a number, and computes them as one batch.

    Greedy answers do not depend on the batch, apart from rounding.
    """

    def __init__(
        self,
        model: Model,
        blind: LoadedRun | None = None,
        *,
        batch_size: int = 32,
        wait_seconds: float = 0.005,
        on_batch: BatchObserver = lambda _count, _seconds: None,
    ) -> None:
        """Start the thread.

        Args:
            model: the run; used by this thread alone from now on.
            blind: the blind control, if there is one.
            batch_size: largest number of jobs of a batch.
            wait_seconds: time for which the first job of a batch waits for others.
            on_batch: called after each batch.
        """
        self._model, self._blind = model, blind
        self._batch_size, self._wait, self._on_batch = batch_size, wait_seconds, on_batch
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> "Future[JobResult]":
        """Queue a job; its future receives the result."""
        self._jobs.put(job)
        return job.future

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def waiting(self) -> int:
        """Number of jobs that wait for a batch."""
        return self._jobs.qsize()

    def close(self) -> None:
        """Compute what is queued, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch, last = self._next_batch()
            wanted = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if wanted:
                started = time.monotonic()
                self._compute(wanted)
                self._on_batch(len(wanted), time.monotonic() - started)
            if last:
                return

    def _next_batch(self) -> tuple[list[Job], bool]:
        """The next jobs, and whether they are the last ones."""
        first = self._jobs.get()
        batch = [first] if first else []
        end = time.monotonic() + self._wait
        while batch and len(batch) < self._batch_size:
            try:
                job = self._jobs.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return batch, False
            if job is None:
                return batch, True
            batch.append(job)
        return batch, not batch

    def _compute(self, jobs: Sequence[Job]) -> None:
        try:
            outcomes = self._results(jobs)
        except Exception as error:
            if len(jobs) > 1:  # one job must not fail the others
                logger.warning("a batch failed (%s): its jobs are computed one by one", error)
                for job in jobs:
                    self._compute([job])
                return
            if not isinstance(error, EpalmError):
                logger.exception("a request failed")
            jobs[0].future.set_exception(error)
            return
        for job in jobs:
            outcome = outcomes[job]
            if isinstance(outcome, EpalmError):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _results(self, jobs: Sequence[Job]) -> dict[Job, JobResult | EpalmError]:
        samples = distinct(jobs)
        row = {key: index for index, key in enumerate(samples)}
        features = self._model.encode_inputs(np.stack(list(samples.values())))
        outcomes: dict[Job, JobResult | EpalmError] = {}
        groups: dict[tuple[object, ...], list[CheckedJob]] = {}
        for job in jobs:
            if job.question is None:
                outcomes[job] = JobResult(features[row[job.key]])
                continue
            try:
                checked = check_job(self._model.loaded, job, job.question)
            except EpalmError as error:
                outcomes[job] = error
                continue
            groups.setdefault(checked.group, []).append(checked)
        for group in groups.values():
            chosen = np.ascontiguousarray(features[[row[one.job.key] for one in group]])
            results = answer_group(self._model.loaded, self._blind, group, chosen)
            outcomes |= {one.job: result for one, result in zip(group, results, strict=True)}
        return outcomes
