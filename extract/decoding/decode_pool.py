"""Decoding of batches in worker processes; a failed sample is returned as its reason.

No sample can end or stall a run. An error of its decoder is its reason. A decoder that takes too
long is interrupted, and killed if it cannot be interrupted. If a decoder crashes its process, the
samples of that batch are decoded again one by one, each crash in a process of its own, to find and
record the sample that causes it.

Without worker processes (`workers=0`) a decoder that crashes ends the program, and one that is
stuck inside C code cannot be interrupted; finished shards are kept.
"""

import functools
import itertools
import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Self

from epalm.extract.decoding import decode_batch as batch_module
from epalm.extract.decoding.decode_batch import (
    HARD_LIMIT,
    DecodeRequest,
    Input,
    LoadedBatch,
    decode_batch,
    decode_sample,
    decode_with_watchdog,
    timeout_reason,
)
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.decoding.worker_process import Worker
from epalm.media.decode_damage import note_damage
from epalm.tasks.types import Modality

PREFETCH_BATCHES = 2
"""Number of batches sent to a worker in advance, including the one that it decodes; this bounds the
memory for decoded batches."""

LIMIT_SECONDS = 60.0
"""Time limit for decoding one sample. The largest images take 4 s on a slow core (measured); a
machine that decodes on all cores and swaps is several times slower."""

IMPORTS: dict[Modality, str] = {
    "image": "epalm.extract.transforms.image_transform",
    "video": "epalm.extract.transforms.video_loader",
    "audio": "epalm.extract.transforms.filter_bank",
}
"""Modules that workers import in advance. Audio clips need torch and torchaudio, images and videos
do not."""

logger = logging.getLogger(__name__)

BatchWorker = Worker[Sequence[DecodeRequest], LoadedBatch]


def load_batches(
    batches: Iterable[Sequence[DecodeRequest]],
    load: Loader,
    *,
    workers: int,
    limit_seconds: float = LIMIT_SECONDS,
) -> Generator[LoadedBatch, None, None]:
    """Decode one batch after the other, in order.

    Args:
        batches: requests of each batch, read as they are needed.
        load: decodes one sample.
        workers: number of processes; 0 decodes in this process.
        limit_seconds: time limit per sample. Without workers it holds in the main thread only,
            where signals arrive.

    Yields:
        One batch per sequence of requests. Notes of the decoders on damaged files are passed on in
        this process (`epalm.media.decode_damage`).

    Raises:
        MediaError: no worker process can be started.
        RuntimeError: `load` raised another error than MediaError in a worker. Without workers, that
            error itself is raised.
    """
    if workers == 0:
        decode = functools.partial(decode_sample, load=load, seconds=limit_seconds)
        for requests in batches:
            yield decode_batch(requests, decode=decode)
        return
    with DecodePool(workers, limit_seconds=limit_seconds) as pool:
        yield from pool.load(batches, load)


class DecodePool:
    """Decoding processes that start before the loader is known; one that dies is replaced."""

    def __init__(
        self,
        workers: int,
        modality: Modality = "image",
        *,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        """Start the processes.

        Args:
            workers: number of processes.
            modality: modality of the samples; its decoder is imported in advance.
            limit_seconds: time limit per sample.
        """
        self.seconds = limit_seconds
        self.imports = (batch_module.__name__, IMPORTS[modality])
        self.workers: list[BatchWorker] = []
        self.loader: Loader | None = None
        self.pending: deque[tuple[int, Sequence[DecodeRequest]]] = deque()
        self.grow(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def grow(self, workers: int) -> None:
        """Start processes until there are `workers` of them."""
        while len(self.workers) < workers:
            self.workers.append(Worker(self.imports))

    def end(self) -> None:
        """Kill the processes and wait for their end, so that their CPU time counts for this one."""
        for worker in self.workers:
            worker.end()

    def load(
        self, batches: Iterable[Sequence[DecodeRequest]], load: Loader
    ) -> Generator[LoadedBatch, None, None]:
        """Decode one batch after the other, in order; see `load_batches`.

        Requests in flight are kept, to be sent again if a worker dies. The pool can be used again
        with the same loader once all batches have been received.

        Raises:
            ValueError: the pool has another loader, or earlier batches were not received.
        """
        self._apply(load)
        remaining, numbers = iter(batches), itertools.cycle(range(len(self.workers)))
        self._refill(remaining, numbers)
        while self.pending:
            number, requests = self.pending[0]
            loaded = self.workers[number].receive()
            if loaded is None:
                loaded = self._recover(number, requests)
            self.pending.popleft()
            self._refill(remaining, numbers)
            _pass_on(loaded.notes)
            yield loaded

    def _apply(self, load: Loader) -> None:
        """Send the loader to the processes, once."""
        if self.pending or self.loader not in (None, load):
            raise ValueError("a pool decodes with one loader, one sequence of batches at a time")
        if self.loader is None:
            self.loader = load
            self.handle = functools.partial(decode_with_watchdog, load=load, seconds=self.seconds)
            for worker in self.workers:
                worker.apply(self.handle)

    def _refill(self, batches: Iterator[Sequence[DecodeRequest]], numbers: Iterator[int]) -> None:
        free = PREFETCH_BATCHES * len(self.workers) - len(self.pending)
        for requests in itertools.islice(batches, free):
            number = next(numbers)
            self.workers[number].send(requests)
            self.pending.append((number, requests))

    def _recover(self, number: int, requests: Sequence[DecodeRequest]) -> LoadedBatch:
        """Replace a worker that died, and decode its current batch one by one."""
        cause = _cause_of_death(self.workers[number].exit_code())
        self.workers[number].end()
        self.workers[number] = start_worker(self.handle, self.imports)
        for other, later in itertools.islice(self.pending, 1, None):
            if other == number:
                self.workers[number].send(later)
        logger.warning(
            "a decoding process died (%s); decoding its %d samples one by one", cause, len(requests)
        )
        isolated = _IsolatedDecoder(self.handle, self.imports, seconds=self.seconds)
        try:
            return decode_batch(requests, decode=isolated.decode)
        finally:
            isolated.worker.end()


def start_worker(
    handle: Callable[[Sequence[DecodeRequest]], LoadedBatch], imports: Sequence[str]
) -> BatchWorker:
    """A decoding process that has its function and the modules that it imports in advance."""
    worker: BatchWorker = Worker(imports)
    worker.apply(handle)
    return worker


class _IsolatedDecoder:
    """Decodes samples one by one; a sample fails only if it is the first in a process that dies."""

    def __init__(
        self,
        handle: Callable[[Sequence[DecodeRequest]], LoadedBatch],
        imports: Sequence[str],
        *,
        seconds: float,
    ) -> None:
        self.handle = handle
        self.imports = imports
        self.seconds = seconds
        self.worker = start_worker(handle, imports)

    def decode(self, request: DecodeRequest) -> Input | str:
        while True:
            first = self.worker.sent == 0
            self.worker.send([request])
            started = time.monotonic()
            loaded = self.worker.receive()
            if loaded is not None:
                _pass_on(loaded.notes)
                return (
                    loaded.errors[request.item.key] if loaded.inputs is None else loaded.inputs[0]
                )
            timed_out = time.monotonic() - started >= HARD_LIMIT * self.seconds
            cause = _cause_of_death(self.worker.exit_code())
            self.worker.end()
            self.worker = start_worker(self.handle, self.imports)
            if first:
                crash = f"the decoder crashed ({cause})"
                reason = timeout_reason(self.seconds) if timed_out else crash
                return f"{request.item.path.name}: {reason}"


def _pass_on(notes: Sequence[str]) -> None:
    for note in notes:
        note_damage(note)


def _cause_of_death(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    return f"signal {-exit_code}" + (", out of memory?" if -exit_code == signal.SIGKILL else "")
