"""Fill a store of 10^8 samples with a thousand workers that die, in virtual time.

    python -m bench.scale                         # 10^8 samples, 1,000 workers, four scenarios
    python -m bench.scale --samples 1000000 --workers 50 --scenario everything

The planner, the division into shards, the commit protocol, the storage and its retries are those of
an extraction. Time, the object store and the encoder are simulated (`bench.support.simulation`).
The exit code is 1 if a row of the finished store is missing, doubled or in a wrong place. The
report of docs/explanation/scale.md is the output of this script.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from unittest.mock import patch

import numpy as np

from bench.support.simulation.row_check import RowCheck, check_rows
from bench.support.simulation.simulated_bucket import SCHEME, BucketFaults, BucketService, connect
from bench.support.simulation.simulated_cluster import (
    Cluster,
    ClusterLog,
    WorkerFaults,
    cluster_spec,
)
from bench.support.simulation.virtual_time import VirtualTime, unlock_properties
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.storage import retries
from epalm.cache.storage.local_copies import COPIES
from epalm.cache.store import Store
from epalm.console import say

URL = f"{SCHEME}://bucket/synthetic.zarr"

CREATED_BY_WORKERS = 100_000
"""Up to this number of samples every process lists the keys and creates the store itself."""

KEY_DIGITS = 9

DYING = WorkerFaults(life_seconds=14_400, gone=0.1, stall_seconds=14_400)
"""Of a thousand workers one dies and one stalls every 14 seconds."""

BAD = BucketFaults(errors=0.02, slow=0.01, stale=0.5)

SCENARIOS = {
    "nothing": (WorkerFaults(), BucketFaults()),
    "workers": (DYING, BucketFaults()),
    "bucket": (WorkerFaults(), BAD),
    "everything": (DYING, BAD),
}
"""What goes wrong in each scenario."""


@dataclass(frozen=True)
class Outcome:
    """The result of a scenario.

    Attributes:
        log: what the workers did.
        rows: what is wrong with the store.
        requests: kind of request -> number of them.
        errors: number of requests that failed with 503.
        stale: number of stale listings.
        latency: 50th, 99th and 99.9th percentile of the seconds of a PUT, and the longest.
        done: virtual seconds until 50, 99 and 100 % of the shards were committed.
        ideal: virtual seconds that the encoding takes if nothing goes wrong, shared equally.
        seconds: seconds that the simulation took.
    """

    log: ClusterLog
    rows: RowCheck
    requests: dict[str, int]
    errors: int
    stale: int
    latency: list[float]
    done: list[float]
    ideal: float
    seconds: float


def simulate(
    samples: int,
    workers: int,
    worker_faults: WorkerFaults,
    bucket_faults: BucketFaults,
    *,
    seed: int = 0,
    samples_per_second: float = 20.0,
    shard_rows: int | None = None,
) -> Outcome:
    """Fill a store, and check every row of it.

    Args:
        samples: number of samples.
        workers: number of workers.
        worker_faults: what happens to workers.
        bucket_faults: what happens in the object store.
        seed: seed of everything random.
        samples_per_second: mean speed of a worker.
        shard_rows: rows per shard; None for the planner's choice.
    """
    started, clock = time.monotonic(), VirtualTime()
    service = BucketService(clock, bucket_faults, seed)
    connect(service)
    spec = cluster_spec(samples, 64)
    spec = spec.in_shards_of(shard_rows or fit_shard_rows(samples, spec.row_bytes))
    with tempfile.TemporaryDirectory() as copies, _environment(copies, clock, seed):
        open_store = _opener(service, spec)
        cluster = Cluster(
            clock,
            open_store,
            workers=workers,
            faults=worker_faults,
            samples_per_second=samples_per_second,
            seed=seed,
        )
        cluster.fill()
        requests = dict(service.requests)
        service.faults = BucketFaults()
        rows = check_rows(open_store())
    puts, times = service.seconds["PUT"], list(cluster.log.committed.values())
    return Outcome(
        log=cluster.log,
        rows=rows,
        requests=requests,
        errors=service.errors,
        stale=service.stale_listings,
        latency=[*np.quantile(puts, [0.5, 0.99, 0.999]).tolist(), max(puts)],
        done=np.quantile(times, [0.5, 0.99, 1]).tolist(),
        ideal=samples / samples_per_second / workers,
        seconds=time.monotonic() - started,
    )


@contextmanager
def _environment(copies: str, clock: VirtualTime, seed: int) -> Iterator[None]:
    """Local copies in a folder, and retries that wait in virtual time."""
    unlock_properties(Store)
    with (
        patch.dict(os.environ, {COPIES: copies}),
        patch.object(retries, "sleep", clock.sleep),
        patch.object(retries, "uniform", Random(seed).uniform),
    ):
        yield


def _opener(service: BucketService, spec: StoreSpec) -> Callable[[], Store]:
    """What a process does to open the store.

    The processes of a small store create it. The keys of a large one are too many for a thousand
    processes in one memory: they are written once, and shared.
    """
    if spec.count <= CREATED_BY_WORKERS:
        names = [f"{row:0{KEY_DIGITS}d}" for row in range(spec.count)]
        return lambda: open_to_extract(URL, spec, names)[0]
    keys, files = _created(spec.count, spec.shard_rows)
    for name, data in files.items():
        service.put(name, data)

    def open_existing() -> Store:
        store = Store.at(URL).latest()
        store.keys = keys
        return store

    return open_existing


def _key_chunk(count: int) -> np.ndarray:
    """The chunk of the keys 000000000, 000000001, ... in Zarr's vlen-utf8 codec."""
    records = np.empty((count, 4 + KEY_DIGITS), np.uint8)
    records[:, :4] = np.frombuffer(KEY_DIGITS.to_bytes(4, "little"), np.uint8)
    rows = np.arange(count, dtype=np.int64)
    for digit in range(KEY_DIGITS):
        records[:, -1 - digit] = rows // 10**digit % 10 + ord("0")
    header = np.frombuffer(count.to_bytes(4, "little"), np.uint8)
    return np.concatenate([header, records.reshape(-1)])


@lru_cache(maxsize=1)
def _created(count: int, shard_rows: int) -> tuple[PackedKeys, dict[str, bytes]]:
    """Keys and objects of a new store, as `create_store` makes them, with keys encoded already."""
    spec, chunk = cluster_spec(count, shard_rows), _key_chunk(count)
    keys, store = PackedKeys.from_vlen(chunk, spec.count), Store.at(URL)
    metadata = store.format.encode_initial_files(spec.grown_to(1), ["0"])
    files = {name: data for name, data in metadata.items() if isinstance(data, bytes)}
    files["keys/c/0"] = chunk.tobytes()
    header = StoreHeader.make(spec, keys, files)
    files[store.private_name("spec.json")] = header.to_bytes()
    return keys, {f"{URL.partition('://')[2]}/{name}": data for name, data in files.items()}


def lines(name: str, outcome: Outcome) -> list[str]:
    """A scenario as rows of the table in docs/explanation/scale.md."""
    log, rows = outcome.log, outcome.rows
    twice = sum(count > 1 for count in log.attempts.values())
    requests = ", ".join(f"{count:,} {kind}" for kind, count in sorted(outcome.requests.items()))
    p50, p99, p999, longest = outcome.latency
    half, most, whole = (seconds / 3600 for seconds in outcome.done)
    return [
        f"## {name}",
        f"missing rows {rows.missing}, duplicates {rows.duplicates}, misplaced {rows.misplaced}, "
        f"wrong failures {rows.wrong_failures}, damaged shards {rows.damaged}",
        f"processes: {log.started:,} started, {log.killed:,} killed, {log.stalled:,} stalled, "
        f"{sum(log.failed.values()):,} ended with an error {dict(log.failed) or ''}",
        f"lost work: {100 * log.lost:.2f} % of the encoding; {twice:,} of "
        f"{len(log.committed):,} shards encoded more than once; {log.rounds} rounds of tasks for "
        "missing shards",
        f"requests: {requests}; {outcome.errors:,} failed, {outcome.stale:,} stale listings",
        f"PUT: median {p50:.3f} s, 99 % {p99:.2f} s, 99.9 % {p999:.2f} s, longest {longest:.1f} s",
        f"shards committed: half after {half:.2f} h, 99 % after {most:.2f} h, all after "
        f"{whole:.2f} h (mean of the encoding {outcome.ideal / 3600:.2f} h)",
        f"simulated in {outcome.seconds:.0f} s",
    ]


def main(arguments: list[str]) -> int:
    """Run scenarios; 1 if a row is wrong in one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=100_000_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples-per-second", type=float, default=20.0)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append")
    options = parser.parse_args(arguments)
    passed = True
    for name in options.scenario or SCENARIOS:
        outcome = simulate(
            options.samples,
            options.workers,
            *SCENARIOS[name],
            seed=options.seed,
            samples_per_second=options.samples_per_second,
        )
        for line in lines(name, outcome):
            say(line)
        passed &= outcome.rows.passed
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
