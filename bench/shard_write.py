"""How fast is a shard written, with checksum, fsync and commit record?

    OMP_NUM_THREADS=1 python -m bench.shard_write

The reference writes the same bytes to a plain file and fsyncs it.
"""

import cProfile
import os
import pstats
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench.support.scratch_stores import WIDTH, random_tokens, scratch, scratch_keys, scratch_spec
from bench.support.timed_rounds import (
    Folder,
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Stopwatch,
    Variant,
    compare,
    interleave,
)
from epalm.cache.create_store import create_store
from epalm.cache.formats.store_format import Features
from epalm.cache.spec import SHARD_ROWS
from epalm.cache.store import Store
from epalm.console import byte_size

REFERENCE = "raw write and fsync"

TARGETS = {"zarr": 0.25, "hdf5": 0.6}
"""Format -> smallest acceptable ratio to the reference."""

PROFILED = 5
"""Number of shards whose steps are timed separately."""

SUFFIXES = {"zarr": ".zarr", "hdf5": ".h5"}


def raw_variant(file: Path, tokens: Features) -> Variant:
    """Write and fsync the raw bytes."""

    def run(_number: int) -> Sample:
        with Stopwatch() as stopwatch, file.open("xb") as out:
            out.write(tokens.data)
            out.flush()
            os.fsync(out.fileno())
        file.unlink()
        return stopwatch.sample(tokens.nbytes)

    return run


def store_variant(store: Store, tokens: Features) -> Variant:
    """Write a new shard, then delete it."""

    def run(number: int) -> Sample:
        with Stopwatch() as stopwatch:
            store.write_shard(number, tokens, {})
        if store.commit_record(number).rows != len(tokens):
            raise RuntimeError("the commit record has another number of rows than was written")
        store.storage.delete(store.format.shard_files(number))
        return stopwatch.sample(tokens.nbytes)

    return run


def profile_lines(store: Store, shard: int, tokens: Features) -> list[Line]:
    """Median time of each step of writing a shard, over `PROFILED` further shards."""
    steps = {
        "cast_features": "cast and check values",
        "size_and_checksum": "CRC-32C",
        "encode_shard": "encode",
        "put": "write, fsync, rename",
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(PROFILED):
        profile = cProfile.Profile()
        profile.runcall(store.write_shard, shard, tokens, {})
        calls = pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
        for name, values in seconds.items():
            values.append(max(cumulative for key, (*_, cumulative, _) in calls if key[2] == name))
    return [
        Line(f"  {text}", 1000 * float(np.median(seconds[name])), "ms")
        for name, text in steps.items()
    ]


def main(
    rows: Annotated[int, typer.Option(help="Rows per shard.", min=64)] = SHARD_ROWS,
    width: int = WIDTH,
    rounds: Rounds = 15,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare writing a shard in both formats with writing the raw bytes."""
    spec = scratch_spec(rows * (rounds + 1), width=width, shard_rows=rows)
    tokens = random_tokens(spec)
    with scratch(folder) as place:
        keys = scratch_keys(spec.count)
        stores = {
            name: create_store(place / f"s{suffix}", spec, keys)
            for name, suffix in SUFFIXES.items()
        }
        for store in stores.values():
            _ = store.keys  # read and compared once per run, not per shard
        variants = {name: store_variant(store, tokens) for name, store in stores.items()}
        samples = interleave({REFERENCE: raw_variant(place / "raw", tokens), **variants}, rounds)
        lines = []
        for line in compare(samples, reference=REFERENCE, unit="bytes/s", targets=TARGETS):
            lines.append(line)
            if line.what in stores:
                lines += profile_lines(stores[line.what], rounds, tokens)
    question = f"Writing a shard of {byte_size(tokens.nbytes)}"
    Result(question, lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
