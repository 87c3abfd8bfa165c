"""Samples arrive in order, decoded or with their reason, even if one crashes its decoder."""

import itertools
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from epalm.errors import MediaError
from epalm.extract.decoding import decode_batch
from epalm.extract.decoding.decode_batch import DecodeRequest, LoadedBatch
from epalm.extract.decoding.decode_pool import IMPORTS, PREFETCH_BATCHES, DecodePool, load_batches
from epalm.extract.decoding.worker_process import Worker
from epalm.tasks.types import MediaItem, Modality
from tests.extract.decoding.decoders import (
    Delayed,
    arrays,
    batched,
    endless,
    imported,
    load_or_misbehave,
    named,
)
from tests.repository import ROOT

WORKERS = [0, *(pytest.param(workers, marks=pytest.mark.slow) for workers in (1, 2))]
CREWS = [1, 2, 3]


def loaded(
    *names: str, size: int = 3, workers: int = 0, views: int = 1, limit_seconds: float = 60
) -> list[LoadedBatch]:
    requests = batched(named(*names), size, views=views)
    return list(
        load_batches(requests, load_or_misbehave, workers=workers, limit_seconds=limit_seconds)
    )


def values(batches: list[LoadedBatch]) -> list[float]:
    return [one.item() for batch in batches if batch.inputs is not None for one in batch.inputs]


def reasons(batches: list[LoadedBatch]) -> dict[str, str]:
    return {key: reason for batch in batches for key, reason in batch.errors.items()}


@pytest.mark.parametrize("workers", WORKERS)
def test_batches_are_in_order_with_their_rows(workers: int) -> None:
    batches = loaded(*map(str, range(10)), size=4, workers=workers)
    assert [batch.rows for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [batch.samples for batch in batches] == [4, 4, 2]
    assert values(batches) == [10.0 * number for number in range(10)]


@pytest.mark.parametrize("workers", WORKERS)
def test_a_broken_sample_does_not_affect_its_neighbors(workers: int) -> None:
    first, second = loaded("0", "broken", "2", "broken", "broken", "broken", workers=workers)
    assert (first.rows, values([first])) == ([0, 2], [0.0, 20.0])
    assert first.errors == {"k1": "k1: broken on purpose"}
    assert second.rows == []
    assert second.inputs is None
    assert list(second.errors) == ["k3", "k4", "k5"]


@pytest.mark.parametrize("workers", WORKERS)
def test_views_of_a_sample_arrive_in_order(workers: int) -> None:
    batches = loaded("1", "broken", "2", size=5, views=3, workers=workers)
    assert [batch.views for batch in batches] == [[0, 1, 2], [0, 1, 2]]
    assert values(batches) == [10.0, 11.0, 12.0, 20.0, 21.0, 22.0]
    assert [batch.samples for batch in batches] == [2, 1]


def test_other_views_of_a_failed_sample_are_skipped() -> None:
    tried: list[tuple[str, int]] = []

    def load(item: MediaItem, view: int) -> torch.Tensor:
        tried.append((item.key, view))
        return load_or_misbehave(item, view)

    list(load_batches(batched(named("broken", "1"), 6, views=3), load, workers=0))
    assert tried == [("k0", 0), ("k1", 0), ("k1", 1), ("k1", 2)]


def test_an_unexpected_error_is_not_treated_as_a_broken_file() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        loaded("no number")


@pytest.mark.slow
def test_an_unexpected_error_in_a_worker_is_raised_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)load_or_misbehave.*ValueError: invalid literal"):
        loaded("1", "no number", workers=1)


@pytest.mark.slow
def test_a_worker_that_cannot_start_is_not_the_fault_of_a_sample() -> None:
    worker: Worker[int, int] = Worker()
    worker.apply(Unloadable())
    worker.send(1)
    with pytest.raises(MediaError, match=r"ended during its start .exit code 1.*--workers 0"):
        worker.receive()


class Unloadable:
    def __call__(self, question: int) -> int:
        return question

    def __reduce__(self) -> tuple[object, ...]:
        return sys.exit, (1,)


@pytest.mark.parametrize("workers", WORKERS)
def test_only_the_batches_in_flight_are_requested(workers: int) -> None:
    taken = 0

    def counted() -> Iterator[list[DecodeRequest]]:
        nonlocal taken
        for requests in endless():
            taken += 1
            yield requests

    batches = load_batches(counted(), load_or_misbehave, workers=workers)
    for received in range(1, 6):
        next(batches)
        assert taken <= received + PREFETCH_BATCHES * workers
    batches.close()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_slow_decoder_is_interrupted_even_if_it_swallows_errors(workers: int) -> None:
    started = time.monotonic()
    batches = loaded("1", "sleep", "2", workers=workers, limit_seconds=0.1)
    assert values(batches) == [10.0, 20.0]
    assert reasons(batches) == {"k1": "sleep.png: decoding took longer than 0.1 seconds"}
    assert workers or time.monotonic() - started < 1


def test_suspending_the_program_does_not_fail_the_current_sample(tmp_path: Path) -> None:
    item = MediaItem("k0", tmp_path, "nap.png")
    requests = batched([item], 1)
    (batch,) = load_batches(requests, load_or_misbehave, workers=0, limit_seconds=0.1)
    assert item.path.exists()
    assert (batch.rows, batch.errors) == ([0], {})


def test_the_alarm_and_its_handler_are_restored() -> None:
    before = signal.getsignal(signal.SIGALRM)
    loaded("1", "broken", "sleep", limit_seconds=0.1)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_outside_the_main_thread_samples_are_decoded_without_a_time_limit() -> None:
    actual: list[LoadedBatch] = []
    thread = threading.Thread(target=lambda: actual.extend(loaded("1", "broken", "2")))
    thread.start()
    thread.join()
    assert values(actual) == [10.0, 20.0]


@pytest.mark.slow
@pytest.mark.parametrize("workers", CREWS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("segfault", "the decoder crashed (signal 11)"),
        ("abort", "the decoder crashed (signal 6)"),
        ("killed", "the decoder crashed (signal 9, out of memory?)"),
        ("leave", "the decoder crashed (exit code 9)"),
    ],
)
def test_a_crash_fails_the_sample_that_caused_it_and_no_other(
    name: str, reason: str, workers: int
) -> None:
    names = [str(number) for number in range(30)]
    names[7] = name
    batches = loaded(*names, size=4, workers=workers)
    assert [batch.rows for batch in batches][1] == [4, 5, 6]
    assert values(batches) == [10.0 * number for number in range(30) if number != 7]
    assert reasons(batches) == {"k7": f"{name}.png: {reason}"}
    assert sum(batch.samples for batch in batches) == 30


@pytest.mark.slow
@pytest.mark.parametrize("workers", CREWS)
def test_all_samples_of_a_batch_that_crash_the_decoder_are_found(
    workers: int,
) -> None:
    names = ["segfault", "1", "2", "segfault", "leave", "5", "broken", "7"]
    names += ["8", "abort", "10", "11", "leave"]
    batches = loaded(*names, size=4, workers=workers)
    assert values(batches) == [10.0 * int(name) for name in names if name.isdigit()]
    assert list(reasons(batches)) == ["k0", "k3", "k4", "k6", "k9", "k12"]
    assert [len(batch.rows) for batch in batches] == [2, 2, 3, 0]


@pytest.mark.slow
def test_views_that_crash_the_decoder_are_tried_once() -> None:
    started = time.monotonic()
    batches = loaded("deaf", "1", size=8, views=4, workers=1, limit_seconds=0.4)
    assert values(batches) == [10.0, 11.0, 12.0, 13.0]
    assert list(reasons(batches)) == ["k0"]
    assert time.monotonic() - started < 30


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_decoder_that_cannot_be_interrupted_is_killed(workers: int) -> None:
    batches = loaded("1", "2", "deaf", "4", "5", workers=workers, size=2, limit_seconds=0.4)
    assert values(batches) == [10.0, 20.0, 40.0, 50.0]
    assert reasons(batches) == {"k2": "deaf.png: decoding took longer than 0.4 seconds"}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is limited on Linux only")
def test_a_decoder_that_allocates_too_much_memory_fails() -> None:
    batches = loaded("1", "greedy", "2", workers=1)
    assert values(batches) == [10.0, 20.0]
    assert reasons(batches) == {
        "k1": "greedy.png: decoding needs more memory than a process may take"
    }


@pytest.mark.slow
def test_a_sample_that_crashes_because_of_its_predecessor_does_not_fail() -> None:
    items = named("0", "poison", "2", "3", "4")
    batches = list(load_batches(batched(items, 5), Delayed(), workers=1))
    assert values(batches) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert reasons(batches) == {}


@pytest.mark.slow
def test_without_workers_a_crash_ends_the_program() -> None:
    command = [sys.executable, "-m", "tests.extract.decoding.decoders", "run_into_a_crash"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGSEGV


@pytest.mark.slow
def test_closing_early_leaves_no_worker() -> None:
    batches = load_batches(endless(), load_or_misbehave, workers=2)
    next(batches)
    mine = children()
    assert len(mine) >= 2
    batches.close()
    assert not [child for child in mine if Path(f"/proc/{child}").exists()]


def children() -> list[str]:
    here = os.getpid()
    return Path(f"/proc/{here}/task/{here}/children").read_text().split()


@pytest.mark.parametrize("modality", ["image", "video"])
def test_a_process_that_decodes_images_or_videos_does_not_import_torch(modality: Modality) -> None:
    worker: Worker[str, bool] = Worker((decode_batch.__name__, IMPORTS[modality]))
    worker.apply(imported)
    worker.send("torch")
    worker.send("numpy")
    assert [worker.receive(), worker.receive()] == [False, True]
    worker.end()


def test_arrays_of_a_result_are_complete_and_writable() -> None:
    worker: Worker[int, list[object]] = Worker()
    worker.apply(arrays)
    for size in (3, 100_000):
        worker.send(size)
        name, first, second = worker.receive() or [None] * 3
        assert name == "two arrays"
        assert np.array_equal(first, np.arange(size))
        assert np.array_equal(second, np.ones((2, size), np.uint8))
        second += 1
    worker.end()


def test_the_cpu_time_of_decoding_processes_is_counted() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    with DecodePool(1):
        time.sleep(0.5)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime > before


def test_processes_start_before_their_loader_is_known() -> None:
    with DecodePool(1) as pool:
        pool.grow(2)
        assert len(pool.workers) == 2
        batches = list(pool.load(batched(named("1", "2", "3"), 2), load_or_misbehave))
    assert values(batches) == [10.0, 20.0, 30.0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "send", "exit_code"),
    [
        (signal.SIGINT, os.killpg, 0),
        (signal.SIGTERM, os.kill, 0),
        (signal.SIGTERM, os.killpg, 0),
        (signal.SIGKILL, os.kill, -9),
    ],
)
def test_a_signal_ends_the_run_promptly_and_leaves_no_process(
    number: int, send: Callable[[int, int], None], exit_code: int
) -> None:
    command = [sys.executable, "-m", "tests.extract.decoding.decoders", "run_for_ever"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True)
    assert run.stdout is not None
    with run, run.stdout as output:
        assert output.readline() == b"running\n"
        sent = time.monotonic()
        send(run.pid, number)
        try:
            assert run.wait(10) == exit_code
        finally:
            run.kill()
    assert time.monotonic() - sent < 5
    assert group_ends(run.pid)


def group_ends(group: int) -> bool:
    """Whether no process of the group is left after at most 5 s."""
    for _ in itertools.repeat(None, 50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
