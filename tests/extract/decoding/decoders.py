"""Loaders that fail in every way, for worker processes; this module imports no torch."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epalm.errors import MediaError
from epalm.extract.decoding.decode_batch import DecodeRequest
from epalm.extract.decoding.decode_pool import load_batches
from epalm.tasks.types import MediaItem


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(10)


def sleep_deaf() -> None:
    """Block like C code that never returns to Python."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(100)


def sleep_and_swallow() -> None:
    try:
        time.sleep(100)
    except Exception as error:
        raise MediaError("taken for an error of the decoder") from error


def complain(item: MediaItem) -> None:
    raise MediaError(f"{item.key}: broken on purpose")


def nap_once(item: MediaItem) -> None:
    """Exceed the time limit in the first attempt only."""
    if not item.path.exists():
        item.path.touch()
        time.sleep(100)


MISDEEDS = {
    "broken": complain,
    "segfault": lambda _: die(signal.SIGSEGV),
    "abort": lambda _: os.abort(),
    "killed": lambda _: die(signal.SIGKILL),
    "leave": lambda _: os._exit(9),
    "sleep": lambda _: sleep_and_swallow(),
    "deaf": lambda _: sleep_deaf(),
    "greedy": lambda _: bytearray(3_000_000_000),
    "nap": nap_once,
}


def load_or_misbehave(item: MediaItem, view: int) -> NDArray[np.float64]:
    """Load ten times the number in the file's name, plus the view, (1,)."""
    name = item.path.stem
    if name in MISDEEDS:
        MISDEEDS[name](item)
        name = "0"
    return np.full((1,), 10.0 * int(name) + view)


class Delayed:
    """A loader that crashes at the sample after `poison`."""

    poisoned = False

    def __call__(self, item: MediaItem, view: int) -> NDArray[np.float64]:
        if Delayed.poisoned:
            os._exit(3)
        Delayed.poisoned = item.path.stem == "poison"
        return np.full((1,), float(item.key.removeprefix("k")))


def imported(module: str) -> bool:
    return module in sys.modules


def arrays(size: int) -> list[object]:
    return ["two arrays", np.arange(size), np.ones((2, size), np.uint8)]


def named(*names: str) -> list[MediaItem]:
    return [MediaItem(f"k{row}", Path(), f"{name}.png") for row, name in enumerate(names)]


def batched(items: list[MediaItem], size: int, *, views: int = 1) -> list[list[DecodeRequest]]:
    every = [
        DecodeRequest(row, view, item) for row, item in enumerate(items) for view in range(views)
    ]
    return [every[start : start + size] for start in range(0, len(every), size)]


def endless() -> Iterator[list[DecodeRequest]]:
    item = MediaItem("k", Path(), "1.png")
    while True:
        yield [DecodeRequest(0, 0, item)] * 4


def slowly(item: MediaItem, view: int) -> NDArray[np.float64]:
    time.sleep(0.05)
    return load_or_misbehave(item, view)


def run_for_ever() -> None:
    """Decode until Ctrl-C, SIGTERM or kill -9."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    batches = load_batches(endless(), slowly, workers=2)
    try:
        for number, _ in enumerate(batches):
            if number == 3:
                sys.stdout.write("running\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        batches.close()
        left = [thread.name for thread in threading.enumerate() if not thread.daemon]
        sys.exit(0 if left == ["MainThread"] else 2)


def run_into_a_crash() -> None:
    list(load_batches(batched(named("1", "segfault"), 2), load_or_misbehave, workers=0))


if __name__ == "__main__":
    from tests.extract.decoding import decoders  # worker processes do not import the main program

    getattr(decoders, sys.argv[1])()
