"""What do stores of many shards and many rows cost to open, look up, and begin an epoch on?

python -m bench.large_store --rows 100000000

`status` reads the commit records of a store of 12,000 shards, from the disk and from a local S3
server (moto). A store of many rows of 16 bytes is
opened in a new process each time: the features are holes in sparse files, the keys take 22 bytes
each on the disk, and their look-up table 12 more in the folder of local copies.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import typer

from bench.support.large_stores import large_keys, large_spec, make_large_store
from bench.support.made_captions import WordEncoder, make_captions
from bench.support.peak_memory import own_bytes, peak_memory_of
from bench.support.s3_copy import served_on_s3
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Sample,
    Stopwatch,
    at_most,
)
from epalm.cache.readers.encoded_examples import encoded_examples
from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.cache.readers.open_reader import index_store
from epalm.cache.readers.reader_choice import Budget, choose_reader
from epalm.cache.spec import CHUNK_ROWS
from epalm.cache.storage.local_copies import use_local_cache
from epalm.cache.store import Store
from epalm.train.data.batch_loader import Loader
from epalm.train.data.tokenized_texts import TokenizedTexts

if TYPE_CHECKING:
    from epalm.model.text.text_encoder import TextEncoder

MANY_SHARDS = 12_000

LARGE_SHARD_ROWS = 32_768
"""Rows per shard of a real store of more than ten million samples."""

BATCH_SIZE = 512

FOUND_KEYS = 512

BUDGET = 1 << 30


def main(
    rows: Annotated[int, typer.Option(help="Number of rows, about.")] = 10_000_000,
    examples: Annotated[int, typer.Option(help="Number of training examples.")] = 1_000_000,
    folder: Folder = None,
    json_file: JsonFile = None,
) -> None:
    """Measure, print the table, delete the stores."""
    with scratch(folder) as inside:
        use_local_cache(inside / "copies", "")
        lines = _many_shards(inside / "shards.zarr")
        lines += _many_rows(inside / "rows.zarr", rows, examples)
    Result("Large stores", lines).publish(json_file)


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
    """Everything about data until the first batch of an epoch in block-shuffled order.

    The examples are captions of random rows. Reading an annotation file is left out, and a word is
    a token, since both depend on the task and on the language model.
    """
    imported = own_bytes()
    with Stopwatch() as opening:
        stores = JoinedStores.open([location])
        index = stores.index()
    before = own_bytes()
    captions = make_captions(stores.first.keys, examples)
    listed = own_bytes()
    with Stopwatch() as joining:
        captions = encoded_examples(captions, index)
        subset = stores.select(index, keys=[caption.key for caption in captions])
        order = choose_reader(
            "stream", subset.requirements(BATCH_SIZE), Budget(BUDGET), readers=("stream",)
        ).order
        texts = TokenizedTexts(cast("TextEncoder", WordEncoder()), captions)
        loader = Loader(captions, subset.open("stream", BUDGET), texts, BATCH_SIZE, 0, order)
        next(loader.batches(0))
    return {
        "imported_bytes": imported,
        "cpu": opening.cpu + joining.cpu,
        "wall": opening.wall + joining.wall,
        "example_us": 1e6 * joining.cpu / examples,
        "example_bytes": (listed - before) / examples,
        "joined_bytes": (own_bytes() - listed) / examples,
    }


def _many_shards(location: Path) -> list[Line]:
    make_large_store(location, large_spec(MANY_SHARDS, CHUNK_ROWS), features=False)
    with served_on_s3(location) as url:
        remote = _status(url)
    local = _status(str(location))
    return [
        Line(f"status of {MANY_SHARDS:,} shards, CPU", local.cpu, "s"),
        at_most(f"status of {MANY_SHARDS:,} shards", local.wall, "s", limit=1),
        Line("the same on S3, CPU without the server", remote.cpu, "s"),
        at_most("the same on S3", remote.wall, "s", limit=15),
    ]


def _status(location: str) -> Sample:
    """The whole command, imports included; the second of two runs."""
    program = "from epalm.extract.cli import main; main()"
    command = [sys.executable, "-c", program, "status", location]
    for _ in range(2):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        if f"{MANY_SHARDS} of {MANY_SHARDS} shards" not in output.replace("\n", " "):
            raise RuntimeError(f"unexpected output: {output}")
        wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Sample(MANY_SHARDS, wall, cpu)


def _many_rows(location: Path, rows: int, examples: int) -> list[Line]:
    make_large_store(location, large_spec(-(-rows // LARGE_SHARD_ROWS), LARGE_SHARD_ROWS))
    first = peak_memory_of("bench.large_store:open_index", str(location))
    opened = peak_memory_of("bench.large_store:open_index", str(location))
    epoch = peak_memory_of("bench.large_store:begin_epoch", str(location), examples)
    answer, begun = opened.answer, epoch.answer
    return [
        Line("open the first time on a machine, CPU", _sum(first.answer, ""), "s"),
        Line("the same", _sum(first.answer, "_wall"), "s"),
        Line("its own memory", first.own_nbytes / 1e9, "GB"),
        Line("open again, CPU", _sum(answer, ""), "s"),
        Line("the same", _sum(answer, "_wall"), "s"),
        Line("its own memory", opened.own_nbytes / 1e9, "GB"),
        at_most(f"look up {FOUND_KEYS} random keys", answer["find_ms"], "ms", limit=5),
        Line(f"first batch of {examples:,} examples, CPU", begun["cpu"], "s"),
        at_most(f"first batch of {examples:,} examples", begun["wall"], "s", limit=60),
        Line("its own memory", epoch.own_nbytes / 1e9, "GB"),
        Line("of which imports", begun["imported_bytes"] / 1e9, "GB"),
        Line("after opening, per example, CPU", begun["example_us"], "us"),
        Line("an example in memory", begun["example_bytes"], "bytes"),
        Line("what the loader adds to it", begun["joined_bytes"], "bytes"),
    ]


def _sum(answer: dict[str, float], suffix: str) -> float:
    return answer[f"keys{suffix}"] + answer[f"table{suffix}"]


if __name__ == "__main__":
    typer.run(main)
