"""Decoding of one batch in one process, with a time limit per sample."""

import faulthandler
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MediaError
from epalm.extract.decoding.sample_loader import Loader
from epalm.media.decode_damage import collect_damage
from epalm.tasks.types import MediaItem

ATTEMPTS = 2
"""Number of times that a sample may exceed the time limit. A suspended program (Ctrl-Z) exceeds the
limit of the current sample once when it is continued."""

HARD_LIMIT = ATTEMPTS + 1.0
"""A decoder that cannot be interrupted is killed after this multiple of the time limit."""

Input = NDArray[Any]
"""One input of an encoder."""


class DecodeRequest(NamedTuple):
    """A sample to decode and the place of its features: row within the shard, and view."""

    row: int
    view: int
    item: MediaItem


@dataclass(frozen=True)
class LoadedBatch:
    """The results of a sequence of requests.

    Attributes:
        rows: row within the shard of each decoded input.
        views: view of each decoded input.
        inputs: (B, ...) decoded inputs in the order of `rows`; None if there are none.
        errors: key -> reason of each sample that cannot be decoded.
        samples: number of samples whose view 0 is among the requests.
        notes: notes on damaged files that a worker process has collected.
    """

    rows: list[int]
    views: list[int]
    inputs: NDArray[Any] | None
    errors: dict[str, str]
    samples: int
    notes: Sequence[str] = ()


Decode = Callable[[DecodeRequest], Input | str]
"""Returns one input, or the reason why the sample cannot be decoded."""


def batch_requests(
    items: Iterable[tuple[int, MediaItem]], views: int, *, batch_size: int
) -> Iterator[list[DecodeRequest]]:
    """Request every view of every sample, in batches.

    Args:
        items: (row within the shard, sample) pairs.
        views: number of views per sample, V.
        batch_size: requests per batch; the last batch may have fewer.
    """
    requests = (DecodeRequest(row, view, item) for row, item in items for view in range(views))
    while batch := list(islice(requests, batch_size)):
        yield batch


def decode_batch(requests: Sequence[DecodeRequest], *, decode: Decode) -> LoadedBatch:
    """Decode all requests. After a view of a sample has failed, its other views are skipped."""
    decoded: list[tuple[DecodeRequest, Input]] = []
    errors: dict[str, str] = {}
    for request in requests:
        if request.item.key in errors:
            continue
        result = decode(request)
        if isinstance(result, str):
            errors[request.item.key] = result
        else:
            decoded.append((request, result))
    return LoadedBatch(
        rows=[request.row for request, _ in decoded],
        views=[request.view for request, _ in decoded],
        inputs=np.stack([inputs for _, inputs in decoded]) if decoded else None,
        errors=errors,
        samples=sum(request.view == 0 for request in requests),
    )


def decode_with_watchdog(
    requests: Sequence[DecodeRequest], *, load: Loader, seconds: float
) -> LoadedBatch:
    """Decode in a worker process, which is killed if a decoder cannot be interrupted."""
    armed = -math.inf
    with Path(os.devnull).open("w") as null:

        def decode(request: DecodeRequest) -> Input | str:
            nonlocal armed
            # Arming takes a tenth of the time of decoding an image, so it is not done for each.
            if time.monotonic() - armed > seconds / 10:
                armed = time.monotonic()
                faulthandler.dump_traceback_later(HARD_LIMIT * seconds, exit=True, file=null)
            return decode_sample(request, load=load, seconds=seconds)

        try:
            with collect_damage() as notes:
                loaded = decode_batch(requests, decode=decode)
            return replace(loaded, notes=notes)
        finally:
            faulthandler.cancel_dump_traceback_later()


def decode_sample(request: DecodeRequest, *, load: Loader, seconds: float) -> Input | str:
    """Decode one view of a sample within the time limit; a failure is returned as its reason."""
    name = request.item.path.name
    for _ in range(ATTEMPTS):
        try:
            with _time_limit(seconds):
                return np.asarray(load(request.item, request.view))
        except MediaError as error:
            return str(error)
        except MemoryError:
            return f"{name}: decoding needs more memory than a process may take"
        except _TimeLimitExceeded:
            continue
    return f"{name}: {timeout_reason(seconds)}"


def timeout_reason(seconds: float) -> str:
    """The reason of a sample whose decoder took too long."""
    return f"decoding took longer than {seconds:g} seconds"


class _TimeLimitExceeded(BaseException):
    """Not an Exception, so that no decoder catches it as an error of its own."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _TimeLimitExceeded after a time, and every second from then on.

    The limit has no effect outside the main thread, where no signals arrive.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def interrupt(_signal: int, _frame: object) -> None:
        raise _TimeLimitExceeded

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous or signal.SIG_DFL)
