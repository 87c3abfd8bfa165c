"""What do stores of many shards and many rows cost to open, look up, and begin an epoch on?

python -m bench.large_store --rows 100000000

`status` reads the commit records of a store of 12,000 shards. A store of many rows of 16 bytes is
opened in a new process each time: the features are holes in sparse files, the keys take 22 bytes
each on the disk.
"""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support.large_stores import large_keys, large_spec, make_large_store
from bench.support.peak_memory import peak_memory_of
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, Stopwatch, at_most
from epalm.cache.readers.epoch_order import ShuffleSpec
from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.open_reader import index_store, select_subset
from epalm.cache.spec import CHUNK_ROWS
from epalm.cache.store import Store

MANY_SHARDS = 12_000

LARGE_SHARD_ROWS = 32_768
"""Rows per shard of a real store of more than ten million samples."""

BATCH_SIZE = 512

FOUND_KEYS = 512

POOL_BLOCKS = 1024

BUDGET = 1 << 30


def main(
    rows: Annotated[int, typer.Option(help="Number of rows, about.")] = 10_000_000,
    examples: Annotated[int, typer.Option(help="Number of training examples.")] = 1_000_000,
    folder: Folder = None,
    json_file: JsonFile = None,
) -> None:
    """Measure, print the table, delete the stores."""
    with scratch(folder) as inside:
        lines = _many_shards(inside / "shards.zarr")
        lines += _many_rows(inside / "rows.zarr", rows, examples)
    Result("Large stores", lines).publish(json_file)


def read_records(location: str) -> dict[str, float]:
    """What `epalm-extract status` does after its imports."""
    with Stopwatch() as watch:
        store = Store.open(location).latest()
        store.failed_samples(store.list_records())
    return {"cpu": watch.cpu, "wall": watch.wall}


def open_index(location: str) -> dict[str, float]:
    """Open a store and look up random keys; CPU seconds of each step, and milliseconds."""
    with Stopwatch() as opening:
        store = Store.open(location)
        count = len(store.keys)
    with Stopwatch() as hashing:
        index = index_store(store)
    random = np.random.default_rng(0)
    times = []
    for _ in range(20):
        keys = large_keys(random.integers(0, count, FOUND_KEYS).tolist())
        started = time.perf_counter()
        index.find(keys)
        times.append(time.perf_counter() - started)
    return {
        "keys": opening.cpu,
        "keys_wall": opening.wall,
        "table": hashing.cpu,
        "table_wall": hashing.wall,
        "find_ms": 1e3 * float(np.median(times)),
    }


def begin_epoch(location: str, examples: int) -> dict[str, float]:
    """Everything about features until the first batch of an epoch in block-shuffled order."""
    with Stopwatch() as watch:
        store = Store.open(location)
        index = index_store(store)
        random = np.random.default_rng(0)
        rows = random.choice(store.spec.count, examples, replace=False)
        keys = large_keys(np.sort(rows).tolist())
        valid = index.valid(keys)
        keys = [key for key, ok in zip(keys, valid.tolist(), strict=True) if ok]
        source = select_subset(store, index, keys=keys).open("stream", BUDGET)
        own = source.rows(keys)
        order = ShuffleSpec("blocks", POOL_BLOCKS).draw(own, random)
        plan = ReadPlan(own[order.examples], np.zeros(len(own), np.intp), order.pool_ends)
        next(source.stream(plan, BATCH_SIZE))
    return {"cpu": watch.cpu, "wall": watch.wall}


def _many_shards(location: Path) -> list[Line]:
    make_large_store(location, large_spec(MANY_SHARDS, CHUNK_ROWS), features=False)
    read = peak_memory_of("bench.large_store:read_records", str(location)).answer
    return [
        Line(f"status of {MANY_SHARDS:,} shards, CPU", read["cpu"], "s"),
        at_most(f"status of {MANY_SHARDS:,} shards", read["wall"], "s", limit=1),
    ]


def _many_rows(location: Path, rows: int, examples: int) -> list[Line]:
    make_large_store(location, large_spec(-(-rows // LARGE_SHARD_ROWS), LARGE_SHARD_ROWS))
    opened = peak_memory_of("bench.large_store:open_index", str(location))
    epoch = peak_memory_of("bench.large_store:begin_epoch", str(location), examples)
    answer = opened.answer
    return [
        Line("keys: read and compare with the digest, CPU", answer["keys"], "s"),
        Line("keys: read and compare with the digest", answer["keys_wall"], "s"),
        Line("hash and sort the keys, CPU", answer["table"], "s"),
        Line("hash and sort the keys", answer["table_wall"], "s"),
        at_most(f"look up {FOUND_KEYS} random keys", answer["find_ms"], "ms", limit=5),
        Line("peak memory, mapped keys included", opened.nbytes / 1e9, "GB"),
        Line(f"first batch of {examples:,} examples, CPU", epoch.answer["cpu"], "s"),
        at_most(f"first batch of {examples:,} examples", epoch.answer["wall"], "s", limit=60),
        Line("its peak memory, mapped keys included", epoch.nbytes / 1e9, "GB"),
    ]


if __name__ == "__main__":
    typer.run(main)
