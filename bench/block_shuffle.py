"""Shuffled epochs over a store larger than memory: how fast, how much memory, how random?

    OMP_NUM_THREADS=1 python -m bench.block_shuffle

The reference reads the same files sequentially with the same number of threads. Before each pass
the files are dropped from the page cache; the table has the number of bytes read from the disk.
"""

import math
import os
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support.peak_memory import peak_memory_of
from bench.support.scratch_stores import WIDTH, make_store, row_numbers, scratch, scratch_spec
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Stopwatch,
    at_most,
    compare,
    interleave,
)
from epalm.cache.formats.store_format import format_of
from epalm.cache.readers.disk_readers import READ_THREADS
from epalm.cache.readers.epoch_order import BLOCK_ROWS, Rows, ShuffleSpec, design_effect
from epalm.cache.readers.feature_source import ReadPlan, StoreReader
from epalm.cache.readers.open_reader import index_store, select_subset
from epalm.cache.readers.reader_choice import LOCAL_READERS, Budget, choose_reader
from epalm.cache.store import Store
from epalm.console import byte_size

PIECE_BYTES = 1 << 22
"""Bytes per read of the sequential reference (4 MiB)."""

CLASSES = 64
"""Number of classes of the sorted data on which the variance of a batch is measured."""

MIN_RATIO = 0.6
MAX_DESIGN_EFFECT = 1.2
MAX_BUDGET_RATIO = 1.1


@dataclass(frozen=True)
class Streaming:
    """A store, its streaming reader and the shuffled order."""

    store: Store
    reader: StoreReader
    order: ShuffleSpec

    @classmethod
    def open(cls, location: str, budget: int, batch_size: int) -> "Streaming":
        """Open a store as training does with `--reader stream`."""
        store = Store.open(location)
        selection = select_subset(store, index_store(store))
        need = selection.requirements(batch_size)
        choice = choose_reader("stream", need, Budget(budget), readers=LOCAL_READERS)
        return cls(store, selection.open("stream", budget), choice.order)

    def plan(self, seed: int) -> ReadPlan:
        """An epoch over every row."""
        rows = np.arange(self.store.spec.count)
        drawn = self.order.draw(rows, np.random.default_rng(seed))
        return ReadPlan(rows[drawn.examples], np.zeros_like(rows), drawn.pool_ends)

    def serve(self, seed: int, batch_size: int) -> int:
        """Read an epoch; the number of rows.

        Raises:
            RuntimeError: the rows are not those of the plan, each exactly once.
        """
        plan, served = self.plan(seed), 0
        seen = np.zeros(self.store.spec.count, np.bool_)
        for tokens in self.reader.stream(plan, batch_size):
            rows = row_numbers(tokens)
            if not np.array_equal(rows, plan.rows[served : served + len(rows)]):
                raise RuntimeError("the streaming reader returned the wrong rows")
            seen[rows] = True
            served += len(rows)
        if served != len(seen) or not seen.all():
            raise RuntimeError(f"{served} rows read, {seen.sum()} distinct, of {len(seen)}")
        return served


def stream_once(location: str, budget: int, batch_size: int) -> int:
    """Read one epoch, in a new process whose memory is measured."""
    return Streaming.open(location, budget, batch_size).serve(0, batch_size)


def open_only(location: str, budget: int, batch_size: int) -> int:
    """Open the store only, to measure the memory of libraries and keys."""
    return Streaming.open(location, budget, batch_size).store.spec.count


def import_only(location: str) -> None:
    """Import only, including the library of the format."""
    format_of(location)


def read_sequentially(store: Store) -> int:
    """Read all shard files sequentially with the reader's number of threads; the bytes read."""
    pieces: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    descriptors = [os.open(file, os.O_RDONLY) for file in shard_paths(store)]
    try:
        for descriptor in descriptors:
            for first in range(0, os.fstat(descriptor).st_size, PIECE_BYTES):
                pieces.put((descriptor, first))

        def work(_thread: int) -> int:
            piece, count = bytearray(PIECE_BYTES), 0
            while True:
                try:
                    descriptor, first = pieces.get_nowait()
                except queue.Empty:
                    return count
                count += os.preadv(descriptor, [piece], first)

        with ThreadPoolExecutor(READ_THREADS) as threads:
            return sum(threads.map(work, range(READ_THREADS)))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def check_all(store: Store) -> None:
    """Compare every shard with its commit record, as the first epoch does before reading."""
    for shard in range(store.spec.shards):
        store.check_shard(shard)


def shard_paths(store: Store) -> list[Path]:
    """Paths of the shard files, in order."""
    return [store.extent(shard).path for shard in range(store.spec.shards)]


def drop_cache(files: Iterable[Path]) -> None:
    """Drop the files, which have been synced, from the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def disk_bytes() -> int:
    """Number of bytes that this process has read from the disk."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes:"))


def measured_effect(
    batches: Iterable[Rows], *, count: int, batch_size: int, classes: int = CLASSES
) -> float:
    """Variance of the number of examples of a class in a batch, relative to the binomial variance.

    Args:
        batches: (batch_size,) rows each; smaller batches are ignored.
        count: number of rows of the store, sorted by class, with classes of equal size.
        batch_size: rows per batch.
        classes: number of classes.
    """
    fraction, squares = 1 / classes, []
    for rows in batches:
        if len(rows) == batch_size:
            counts = np.bincount(rows * classes // count, minlength=classes)
            squares.append(np.mean((counts - batch_size * fraction) ** 2))
    return float(np.mean(squares) / (batch_size * fraction * (1 - fraction)))


def cut(plan: ReadPlan, batch_size: int) -> Iterator[Rows]:
    """The rows of each batch of a plan."""
    for first in range(0, len(plan.rows), batch_size):
        yield plan.rows[first : first + batch_size]


def effect_lines(streaming: Streaming, batch_size: int, epochs: int) -> list[Line]:
    """The variance of batches drawn from class-sorted data, and its closed form."""
    count = streaming.store.spec.count
    blocks = -(-count // BLOCK_ROWS)
    pools = -(-blocks // streaming.order.pool_blocks)
    plans = (streaming.plan(seed) for seed in range(epochs))
    rows = (part for plan in plans for part in cut(plan, batch_size))
    effect = measured_effect(rows, count=count, batch_size=batch_size)
    closed = design_effect(batch_size, math.ceil(blocks / pools))
    reported = design_effect(batch_size, streaming.order.pool_blocks)
    return [
        at_most(f"deff measured, {pools} pools", effect, "fold", limit=MAX_DESIGN_EFFECT),
        Line("deff, closed form of these pools", closed, "fold"),
        Line("deff, as reported by the reader", reported, "fold"),
    ]


def speed_lines(streaming: Streaming, batch_size: int, rounds: int) -> list[Line]:
    """Shuffled epochs read from the disk, compared with sequential reading."""
    store, fetched = streaming.store, dict[str, list[float]]()
    files, rows = shard_paths(store), store.spec.count
    streaming.serve(0, batch_size)  # compares the shards with their records, once

    def cold(name: str, read: Callable[[int], object]) -> Callable[[int], Sample]:
        def run(number: int) -> Sample:
            drop_cache(files)
            before = disk_bytes()
            with Stopwatch() as stopwatch:
                read(number)
            fetched.setdefault(name, []).append((disk_bytes() - before) / store.spec.nbytes)
            return stopwatch.sample(rows)

        return run

    variants = {
        "sequential": cold("sequential", lambda _: read_sequentially(store)),
        "streamed": cold("streamed", lambda number: streaming.serve(number, batch_size)),
        "check": cold("check", lambda _: check_all(store)),
    }
    samples = interleave(variants, rounds)
    targets = {"streamed": MIN_RATIO}
    lines = compare(samples, reference="sequential", unit="rows/s", targets=targets)
    return lines + [
        Line(f"from the disk: {name}", float(np.median(parts)), "of the store")
        for name, parts in fetched.items()
    ]


def memory_lines(location: Path, budget: int, batch_size: int) -> list[Line]:
    """Peak memory of a new process, without that of its imports."""
    place = str(location)
    imports = peak_memory_of("bench.block_shuffle:import_only", place).nbytes
    opened = peak_memory_of("bench.block_shuffle:open_only", place, budget, batch_size).nbytes
    streamed = peak_memory_of("bench.block_shuffle:stream_once", place, budget, batch_size).nbytes
    limit = MAX_BUDGET_RATIO * budget / 1e6
    return [
        Line("memory of imports alone", imports / 1e6, "MB"),
        Line("beyond that: store opened", (opened - imports) / 1e6, "MB"),
        at_most("beyond that: epoch streamed", (streamed - imports) / 1e6, "MB", limit=limit),
    ]


def main(
    rows: Annotated[int, typer.Option(min=1)] = 327_680,
    width: int = WIDTH,
    budget: Annotated[int, typer.Option(help="Memory of two pools in bytes.")] = 800_000_000,
    batch_size: Annotated[int, typer.Option(min=1)] = 512,
    suffix: Annotated[str, typer.Option(help="Format of the store: .zarr or .h5.")] = ".zarr",
    epochs: Annotated[int, typer.Option(help="Epochs drawn for the variance.", min=1)] = 10,
    rounds: Rounds = 5,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare shuffled epochs from the disk with sequential reading."""
    with scratch(folder) as place:
        location = place / f"s{suffix}"
        make_store(location, scratch_spec(rows, width=width))
        lines = memory_lines(location, budget, batch_size)
        streaming = Streaming.open(str(location), budget, batch_size)
        lines += effect_lines(streaming, batch_size, epochs)
        lines += speed_lines(streaming, batch_size, rounds)
        size = byte_size(streaming.store.spec.nbytes)
    question = f"Block shuffle of {size} within {byte_size(budget)}, batch {batch_size}"
    Result(question, lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
