"""Measure how fast this machine decodes, encodes, and reads from a store."""

import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from epalm.cache.create_store import create_store
from epalm.cache.readers.open_reader import open_reader
from epalm.extract.decoding.decode_batch import DecodeRequest, LoadedBatch
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.estimate.stage_timing import scratch_parent
from epalm.extract.planning.extraction_plan import Plan
from epalm.extract.run_extraction import encode
from epalm.tasks.types import MediaItem

TIMED_SAMPLES = 32
"""Number of samples that a dry run encodes if no time is given."""

MAX_READ_ROWS = 2048
"""Rows of the temporary store that is read."""

SPREAD_SAMPLES = 100_000
"""Most samples among which those to be timed are drawn."""

READ_BATCH = 64
"""Rows per read, in random order."""

ENCODE_SHARE, READ_SHARE = 0.8, 0.1
"""Parts of the given time for the pipeline and for reading; start and stop take the rest."""


@dataclass(frozen=True)
class SpeedMeasurement:
    """Speeds on this machine, per view of a sample.

    Attributes:
        views: number of views that were encoded.
        per_second: views per second, decoded and encoded as in a run.
        decode_seconds: time of one process to decode and transform; None if it was not measured.
        read_seconds: time to read from a local store in random order; 0 if it was not measured.
        flops: FLOPs of the encoder; None if no sample could be decoded.
        measured: whether the pipeline of a run was timed, rather than the first samples one after
            the other.
    """

    views: int
    per_second: float
    decode_seconds: float | None
    read_seconds: float
    flops: float | None
    measured: bool


def first_samples(plan: Plan) -> SpeedMeasurement:
    """Decode and encode the first samples, one after the other in this process."""
    requests = [DecodeRequest(0, 0, item) for item in plan.items[:TIMED_SAMPLES]]
    views, encoding, flops = 0, 0.0, None
    started = time.monotonic()
    for batch in load_batches([requests], plan.encoder.load, workers=0):
        if batch.inputs is not None:
            encode_started = time.monotonic()
            views += len(encode(plan.encoder, batch.inputs, plan.spec))
            encoding += time.monotonic() - encode_started
            flops = count_flops(plan, batch)
    elapsed = time.monotonic() - started
    decode_seconds = (elapsed - encoding) / views if views else None
    return SpeedMeasurement(views, views / elapsed, decode_seconds, 0.0, flops, measured=False)


def timed_run(plan: Plan, seconds: float) -> SpeedMeasurement:
    """Run the pipeline of an extraction for a time, on samples of the whole dataset.

    A temporary store beside the store is written and read, then deleted.

    Args:
        plan: plan of the run.
        seconds: time for everything.
    """
    views, elapsed, first = 0, 0.0, None
    batches = load_batches(_requests(plan), plan.encoder.load, workers=plan.run_options.workers)
    started = time.monotonic()
    with closing(batches):
        for batch in batches:
            if batch.inputs is not None:
                features = encode(plan.encoder, batch.inputs, plan.spec)
                if first is None:  # the first pass allocates, and workers have just started
                    first, started = batch, time.monotonic()
                else:
                    views += len(features)
                    elapsed = time.monotonic() - started
            if time.monotonic() - started > seconds * ENCODE_SHARE and (views or first is None):
                break
    return SpeedMeasurement(
        views=views,
        per_second=views / elapsed if views else 0.0,
        decode_seconds=_decode_seconds(plan, seconds * (1 - ENCODE_SHARE - READ_SHARE)),
        read_seconds=_read_seconds(plan, seconds * READ_SHARE),
        flops=count_flops(plan, first) if first else None,
        measured=True,
    )


def spread(items: Sequence[MediaItem]) -> Iterator[MediaItem]:
    """The items again and again, in a fixed random order: the first ones may be unlike others."""
    random, count = np.random.default_rng(0), len(items)
    many = count > SPREAD_SAMPLES
    order = random.integers(0, count, SPREAD_SAMPLES) if many else random.permutation(count)
    return (items[row] for row in itertools.cycle(order.tolist()))


def count_flops(plan: Plan, batch: LoadedBatch) -> float | None:
    """FLOPs of the encoder for one view; attention is computed by plain products to be counted."""
    if batch.inputs is None:
        return None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encode(plan.encoder, batch.inputs[:1], plan.spec)
    return float(counter.get_total_flops()) or None


def _requests(plan: Plan) -> Iterator[list[DecodeRequest]]:
    samples = spread(plan.items)
    while True:
        views = itertools.cycle(range(plan.spec.views))
        chosen = itertools.islice(samples, plan.run_options.batch_size)
        yield [
            DecodeRequest(row, view, item)
            for row, (view, item) in enumerate(zip(views, chosen, strict=False))
        ]


def _decode_seconds(plan: Plan, seconds: float) -> float | None:
    """Time to decode and transform one view in this process alone."""
    done, started, elapsed = 0, time.monotonic(), 0.0
    for item in itertools.islice(spread(plan.items), 10**6):
        requests = [[DecodeRequest(0, 0, item)]]
        done += sum(
            batch.inputs is not None
            for batch in load_batches(requests, plan.encoder.load, workers=0)
        )
        elapsed = time.monotonic() - started
        if elapsed > seconds:
            break
    return elapsed / done if done else None


def _read_seconds(plan: Plan, seconds: float) -> float:
    """Time to read one view in random order, from a temporary store in the folder of the store."""
    rows = min(MAX_READ_ROWS, plan.spec.shard_rows)
    spec = plan.spec.in_shards_of(plan.spec.shard_rows).grown_to(rows)
    keys = [str(row) for row in range(rows)]
    with tempfile.TemporaryDirectory(
        prefix=".epalm-measure-", dir=scratch_parent(plan.out)
    ) as folder:
        store = create_store(Path(folder) / "scratch.zarr", spec, keys)
        store.write_shard(0, np.zeros((rows, *spec.row_shape), spec.dtype), {})
        store.finish()
        reader = open_reader(store, reader="pread")
        random = np.random.default_rng(0)
        out = np.empty((READ_BATCH, *spec.row_shape[1:]), spec.dtype)
        views = np.zeros(READ_BATCH, np.intp)
        reader.take(random.integers(rows, size=READ_BATCH), views, out)  # checks the shard
        done, started = 0, time.monotonic()
        while not done or time.monotonic() - started < seconds:
            reader.take(random.integers(rows, size=READ_BATCH), views, out)
            done += READ_BATCH
        return (time.monotonic() - started) / done
