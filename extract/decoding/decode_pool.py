"""Decoded batches from worker processes: a medium that cannot be decoded arrives as its reason.

Nothing that one medium does ends or stalls a run. An error of its decoder is its reason; a decoder
that takes too long is interrupted, and ended where it cannot be interrupted; when a decoder takes
its whole process along, the media of that batch are decoded again one by one, and the one that
kills a process of its own is found and recorded.

Without worker processes (`workers=0`) a decoder that crashes takes the program along, and one that
is stuck inside C code cannot be ended; finished shards are kept.
"""

import faulthandler
import functools
import itertools
import logging
import math
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MediaError
from epalm.extract.decoding.worker_process import Worker
from epalm.media.decode_damage import collect_damage, note_damage
from epalm.tasks.types import MediaItem, Modality

if TYPE_CHECKING:
    from epalm.extract.encoders.encoder_registry import Loader

PREFETCH_BATCHES = 2
"""Batches that a worker has before it, the one it decodes included; bounds the memory in flight."""

LIMIT_SECONDS = 60.0
"""What decoding one medium may take. The largest photos take 4 s on a slow core (measured); a
machine that decodes on all cores and swaps is several times slower."""

ATTEMPTS = 2
"""How often a medium may exceed the limit: a program that was suspended (Ctrl-Z) finds the limit of
the medium in its hands exceeded when it goes on."""

HARD_LIMIT = ATTEMPTS + 1.0
"""A decoder that cannot be interrupted is ended after so many times the limit."""

IMPORTS: dict[Modality, str] = {
    "image": "epalm.extract.transforms.image_transform",
    "video": "epalm.extract.transforms.video_loader",
    "audio": "epalm.extract.transforms.filter_bank",
}
"""What decoding a modality imports: torch and torchaudio for audio clips, neither of them else."""

logger = logging.getLogger(__name__)

Input = NDArray[Any]
"""One input of an encoder."""


class DecodeRequest(NamedTuple):
    """One medium to decode and where its vectors go: row within the shard, and view."""

    row: int
    view: int
    item: MediaItem


@dataclass(frozen=True)
class LoadedBatch:
    """What became of some requests.

    Attributes:
        rows: row within the shard of each decoded medium.
        views: its view.
        inputs: (B, ...) the decoded media, in the order of `rows`; None if there is none.
        errors: key -> reason, for media that cannot be decoded.
        samples: number of samples whose view 0 is among the requests.
        notes: on files of which a part is missing, where a worker process has collected them.
    """

    rows: list[int]
    views: list[int]
    inputs: NDArray[Any] | None
    errors: dict[str, str]
    samples: int
    notes: Sequence[str] = ()


Decode = Callable[[DecodeRequest], Input | str]
"""One medium, or the reason why there is none."""

BatchWorker = Worker[Sequence[DecodeRequest], LoadedBatch]


def load_batches(
    batches: Iterable[Sequence[DecodeRequest]],
    load: "Loader",
    *,
    workers: int,
    limit_seconds: float = LIMIT_SECONDS,
) -> Generator[LoadedBatch, None, None]:
    """Decode batch after batch, in order.

    Args:
        batches: the requests of each batch; taken as they are needed.
        load: decodes one medium.
        workers: number of processes; 0 decodes in this one.
        limit_seconds: what one medium may take. Without workers the limit holds in the main
            thread only, where signals arrive.

    Yields:
        One batch per sequence of requests. What the decoders note on damaged files is noted in this
        process (`epalm.media.decode_damage`).

    Raises:
        MediaError: no worker process can be started.
        RuntimeError: `load` raised something else than MediaError in a worker; without workers
            that error itself.
    """
    if workers == 0:
        decode = functools.partial(_decode, load=load, seconds=limit_seconds)
        for requests in batches:
            yield _load_batch(requests, decode=decode)
        return
    with DecodePool(workers, limit_seconds=limit_seconds) as pool:
        yield from pool.load(batches, load)


class DecodePool:
    """Decoding processes, started before it is known what decodes; each replaced when it dies."""

    def __init__(
        self,
        workers: int,
        modality: Modality = "image",
        *,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        """Start the processes.

        Args:
            workers: how many.
            modality: of the media, whose decoder is imported meanwhile.
            limit_seconds: what one medium may take.
        """
        self.seconds = limit_seconds
        self.imports = (__name__, IMPORTS[modality])
        self.workers: list[BatchWorker] = []
        self.waiting: deque[tuple[int, Sequence[DecodeRequest]]] = deque()
        self.grow(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def grow(self, workers: int) -> None:
        """Start more processes, until there are so many."""
        while len(self.workers) < workers:
            self.workers.append(Worker(self.imports))

    def end(self) -> None:
        """Kill the processes; returns when they are gone, so that their time is counted as ours."""
        for worker in self.workers:
            worker.end()

    def load(
        self, batches: Iterable[Sequence[DecodeRequest]], load: "Loader"
    ) -> Generator[LoadedBatch, None, None]:
        """Decode batch after batch, in order; a pool can be used once. See `load_batches`.

        Only the requests in flight are held, to be asked again should a worker die.
        """
        self.handle = functools.partial(_load_watched, load=load, seconds=self.seconds)
        for worker in self.workers:
            worker.apply(self.handle)
        left, turns = iter(batches), itertools.cycle(range(len(self.workers)))
        self._refill(left, turns)
        while self.waiting:
            turn, requests = self.waiting[0]
            loaded = self.workers[turn].receive()
            if loaded is None:
                loaded = self._after_death(turn, requests)
            self.waiting.popleft()
            self._refill(left, turns)
            _pass_on(loaded.notes)
            yield loaded

    def _refill(self, batches: Iterator[Sequence[DecodeRequest]], turns: Iterator[int]) -> None:
        room = PREFETCH_BATCHES * len(self.workers) - len(self.waiting)
        for requests in itertools.islice(batches, room):
            turn = next(turns)
            self.workers[turn].send(requests)
            self.waiting.append((turn, requests))

    def _after_death(self, turn: int, requests: Sequence[DecodeRequest]) -> LoadedBatch:
        """Replace a worker; decode the batch in its hands one by one."""
        ending = _ending(self.workers[turn].exit_code())
        self.workers[turn].end()
        self.workers[turn] = _started(self.handle, self.imports)
        for other, later in itertools.islice(self.waiting, 1, None):
            if other == turn:
                self.workers[turn].send(later)
        logger.warning(
            "a decoding process died (%s); decoding its %d media one by one", ending, len(requests)
        )
        suspect = _Suspect(self.handle, self.imports, seconds=self.seconds)
        try:
            return _load_batch(requests, decode=suspect.decode)
        finally:
            suspect.worker.end()


def _started(
    handle: Callable[[Sequence[DecodeRequest]], LoadedBatch], imports: Sequence[str]
) -> BatchWorker:
    worker: BatchWorker = Worker(imports)
    worker.apply(handle)
    return worker


class _Suspect:
    """Decodes one by one; blames a medium for a death only if the process had seen no other."""

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
        self.worker = _started(handle, imports)

    def decode(self, request: DecodeRequest) -> Input | str:
        while True:
            alone = self.worker.asked == 0
            self.worker.send([request])
            started = time.monotonic()
            loaded = self.worker.receive()
            if loaded is not None:
                _pass_on(loaded.notes)
                return (
                    loaded.errors[request.item.key] if loaded.inputs is None else loaded.inputs[0]
                )
            seconds = time.monotonic() - started
            ending = _ending(self.worker.exit_code())
            self.worker.end()
            self.worker = _started(self.handle, self.imports)
            if alone:
                name = request.item.path.name
                late = seconds >= HARD_LIMIT * self.seconds
                return (
                    f"{name}: {_late(self.seconds) if late else f'the decoder crashed ({ending})'}"
                )


def _pass_on(notes: Sequence[str]) -> None:
    for note in notes:
        note_damage(note)


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    return f"signal {-exit_code}" + (", out of memory?" if -exit_code == signal.SIGKILL else "")


def _late(seconds: float) -> str:
    return f"decoding took longer than {seconds:g} seconds"


def _load_batch(requests: Sequence[DecodeRequest], *, decode: Decode) -> LoadedBatch:
    """Decode all; once a view of a medium has failed, its other views are not tried."""
    good: list[tuple[DecodeRequest, Input]] = []
    errors: dict[str, str] = {}
    for request in requests:
        if request.item.key in errors:
            continue
        found = decode(request)
        if isinstance(found, str):
            errors[request.item.key] = found
        else:
            good.append((request, found))
    return LoadedBatch(
        rows=[request.row for request, _ in good],
        views=[request.view for request, _ in good],
        inputs=np.stack([one for _, one in good]) if good else None,
        errors=errors,
        samples=sum(request.view == 0 for request in requests),
    )


def _load_watched(
    requests: Sequence[DecodeRequest], *, load: "Loader", seconds: float
) -> LoadedBatch:
    """In a worker: the process ends when a decoder can't be interrupted."""
    wound = -math.inf
    with Path(os.devnull).open("w") as nowhere:

        def decode(request: DecodeRequest) -> Input | str:
            nonlocal wound
            # Winding up the watchdog costs as much as a tenth of a photo, so not for each.
            if time.monotonic() - wound > seconds / 10:
                wound = time.monotonic()
                faulthandler.dump_traceback_later(HARD_LIMIT * seconds, exit=True, file=nowhere)
            return _decode(request, load=load, seconds=seconds)

        try:
            with collect_damage() as notes:
                loaded = _load_batch(requests, decode=decode)
            return replace(loaded, notes=notes)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _decode(request: DecodeRequest, *, load: "Loader", seconds: float) -> Input | str:
    name = request.item.path.name
    for _ in range(ATTEMPTS):
        try:
            with _alarm(seconds):
                return np.asarray(load(request.item, request.view))
        except MediaError as error:
            return str(error)
        except MemoryError:
            return f"{name}: decoding needs more memory than a process may take"
        except _TooLate:
            continue
    return f"{name}: {_late(seconds)}"


class _TooLate(BaseException):
    """The time is over. No Exception, so that no decoder takes it for an error of its own."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise _TooLate after so many seconds, and every second from then on; see `load_batches`."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise _TooLate

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
