"""Encode every medium once and store the [CLS] tokens, shard by shard."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.spec import StoreSpec
from epalm.cache.store import FeatureSink
from epalm.console import Ticker, progress
from epalm.errors import ModelError, Stopped
from epalm.extract.encoder import Encoder, last_cls_tokens
from epalm.extract.loading import LoadedBatch, Request, load_batches
from epalm.tasks.records import MediaItem

UNITS = {"image": "photos", "video": "clips", "audio": "recordings"}
"""What the media of a modality are called in progress lines."""


@dataclass(frozen=True)
class Pace:
    """Settings of a run that change its speed, not its vectors.

    Attributes:
        batch_size: media per pass of the encoder.
        workers: decoding processes; 0 decodes in the encoder's process.
        quiet: no progress display.
    """

    batch_size: int = 32
    workers: int = 2
    quiet: bool = False


@dataclass(frozen=True)
class Report:
    """What a run did.

    Attributes:
        records: media in the store.
        encoded: media this run went through; the others were there before.
        failed: media in the store without vectors.
        seconds: wall clock.
    """

    records: int
    encoded: int
    failed: int
    seconds: float


def extract(
    encoder: Encoder, items: Sequence[MediaItem], sink: FeatureSink, *, pace: Pace
) -> Report:
    """Fill the shards that the store misses.

    Args:
        encoder: where the tokens come from.
        items: the store's media, in the order of its rows.
        sink: the store.
        pace: batch size, workers, display.

    Raises:
        Stopped: Ctrl-C or a termination signal; the same run goes on from there.
        ModelError: the device is out of memory.
        MediaError: a decoding process died.
        StoreError: the store cannot be written, or a value does not fit its dtype.
    """
    started = time.monotonic()
    shards = sink.missing()
    encoded = sum(len(sink.spec.rows_of(shard)) for shard in shards)
    unit = UNITS[encoder.modality]
    try:
        with progress("encoding", total=encoded, unit=unit, quiet=pace.quiet) as tick:
            _fill(encoder, items, sink, shards=shards, pace=pace, tick=tick)
    except KeyboardInterrupt as stop:
        left = len(sink.missing())
        raise Stopped(
            f"stopped with {left} of {sink.spec.shards} shards to do: the same command goes on"
        ) from stop
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{error}; finished shards are kept: use a smaller --batch-size"
        ) from error
    failed = sink.finish()
    return Report(sink.spec.count, encoded, failed, time.monotonic() - started)


def encode(encoder: Encoder, inputs: Tensor, keep: int) -> NDArray[np.float32]:
    """(B, keep, D) normed [CLS] tokens of the last `keep` blocks, oldest first."""
    with torch.inference_mode():
        tokens = last_cls_tokens(encoder.blocks(inputs), encoder.norm, keep)
    vectors: NDArray[np.float32] = tokens.float().cpu().numpy()
    return vectors


def _fill(
    encoder: Encoder,
    items: Sequence[MediaItem],
    sink: FeatureSink,
    *,
    shards: Sequence[int],
    pace: Pace,
    tick: Ticker,
) -> None:
    """Encode one shard while the one before it is written and the next one is decoded."""
    spec = sink.spec
    requests = (
        batch for shard in shards for batch in _requests(spec, items, shard, pace.batch_size)
    )
    batches = load_batches(requests, encoder.load, workers=pace.workers)
    written: Future[None] | None = None
    with closing(batches), ThreadPoolExecutor(max_workers=1) as writer:
        for shard in shards:
            count = -(-len(spec.rows_of(shard)) * spec.views // pace.batch_size)
            own = islice(batches, count)
            tokens, errors = _encode_shard(encoder, spec, shard, batches=own, tick=tick)
            if written:
                written.result()
            written = writer.submit(sink.write, shard, tokens, errors)
        if written:
            written.result()


def _requests(
    spec: StoreSpec, items: Sequence[MediaItem], shard: int, batch_size: int
) -> Iterator[list[Request]]:
    """Every view of every medium of a shard, in batches that end with the shard."""
    rows = spec.rows_of(shard)
    every = (
        Request(row - rows.start, view, items[row]) for row in rows for view in range(spec.views)
    )
    while batch := list(islice(every, batch_size)):
        yield batch


def _encode_shard(
    encoder: Encoder,
    spec: StoreSpec,
    shard: int,
    *,
    batches: Iterator[LoadedBatch],
    tick: Ticker,
) -> tuple[NDArray[np.float32], Mapping[str, str]]:
    """Tokens (rows, V, L, D), NaN where a view failed, and key -> reason of the failed media."""
    shape = (len(spec.rows_of(shard)), spec.views, len(spec.layers), spec.width)
    tokens = np.full(shape, np.nan, dtype=np.float32)
    errors: dict[str, str] = {}
    for batch in batches:
        if batch.inputs is not None:
            vectors = encode(encoder, batch.inputs, len(spec.layers))
            tokens[batch.rows, batch.views] = vectors
        errors |= batch.errors
        tick(batch.media, f"{len(errors)} failed" if errors else "")
    return tokens, errors
