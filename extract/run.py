"""Encode every medium once and store the tokens, shard by shard."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.cast import cast_rows
from epalm.cache.layout import Tokens
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import Ticker, progress
from epalm.errors import ModelError, Stopped
from epalm.extract.encoder import Encoder, normed_tokens
from epalm.extract.loading import LoadedBatch, Request, load_batches
from epalm.extract.share import ALL, Share
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
        failed: media in the finished shards without vectors.
        missing: shards that others have yet to make.
        seconds: wall clock.
    """

    records: int
    encoded: int
    failed: int
    missing: int
    seconds: float


def extract(
    encoder: Encoder,
    items: Sequence[MediaItem],
    store: Store,
    *,
    pace: Pace,
    share: Share = ALL,
) -> Report:
    """Fill the shards that the store misses, and finish it if no other process has to.

    Args:
        encoder: where the tokens come from.
        items: the store's media, in the order of its rows.
        store: created with these media.
        pace: batch size, workers, display.
        share: the shards of this process; all by default.

    Raises:
        Stopped: Ctrl-C or a termination signal; the same run goes on from there.
        ModelError: the device is out of memory.
        MediaError: no decoding process can be started.
        StoreError: the store cannot be written, or a value does not fit its dtype.
    """
    started = time.monotonic()
    shards = [shard for shard in store.missing() if share.owns(shard)]
    encoded = sum(len(store.spec.rows_of(shard)) for shard in shards)
    unit = UNITS[encoder.modality]
    try:
        with progress("encoding", total=encoded, unit=unit, quiet=pace.quiet) as tick:
            _fill(encoder, items, store, shards=shards, pace=pace, tick=tick)
        missing = len(store.missing())
        failed = len(store.failed()) if missing else store.finish()
    except KeyboardInterrupt as stop:
        left = len(store.missing())
        raise Stopped(
            f"stopped with {left} of {store.spec.shards} shards to do: the same command goes on"
        ) from stop
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{error}; finished shards are kept: use a smaller --batch-size"
        ) from error
    return Report(
        records=store.spec.count,
        encoded=encoded,
        failed=failed,
        missing=missing,
        seconds=time.monotonic() - started,
    )


def encode(encoder: Encoder, inputs: Tensor, spec: StoreSpec) -> NDArray[np.float32]:
    """(B, L, D) normed tokens of the blocks and positions that a store keeps."""
    with torch.inference_mode():
        blocks = encoder.blocks(inputs, layers=spec.layers, positions=spec.positions)
        tokens = normed_tokens(blocks, encoder.norm)
    vectors: NDArray[np.float32] = tokens.float().cpu().numpy()
    return vectors


def _fill(
    encoder: Encoder,
    items: Sequence[MediaItem],
    store: Store,
    *,
    shards: Sequence[int],
    pace: Pace,
    tick: Ticker,
) -> None:
    """Encode one shard while the one before it is written and the next one is decoded."""
    spec = store.spec
    requests = (
        batch
        for shard in shards
        for batch in batch_requests(
            enumerate(items[row] for row in spec.rows_of(shard)),
            spec.views,
            batch_size=pace.batch_size,
        )
    )
    batches = load_batches(requests, encoder.load, workers=pace.workers)
    written: Future[None] | None = None
    with closing(batches), ThreadPoolExecutor(max_workers=1) as writer:
        for shard in shards:
            count = -(-len(spec.rows_of(shard)) * spec.views // pace.batch_size)
            own = islice(batches, count)
            rows = spec.rows_of(shard)
            if store.has(shard):  # another process has made it since
                tick(sum(batch.media for batch in own))
                continue
            tokens = np.full((len(rows), *spec.row_shape), np.nan, dtype=spec.dtype)
            keys = store.keys[rows.start : rows.stop]
            errors = encode_into(tokens, encoder, own, spec=spec, keys=keys, tick=tick)
            if written:
                written.result()
            written = writer.submit(_write, store, shard, tokens=tokens, errors=errors)
        if written:
            written.result()


def _write(store: Store, shard: int, *, tokens: Tokens, errors: dict[str, str]) -> None:
    """Write a shard unless another process has made it since."""
    if not store.has(shard):
        store.write(shard, tokens, errors)


def batch_requests(
    items: Iterable[tuple[int, MediaItem]], views: int, *, batch_size: int
) -> Iterator[list[Request]]:
    """Every view of every medium, in batches.

    Args:
        items: row within the shard, and the medium.
        views: V.
        batch_size: requests per batch; the last one may have fewer.
    """
    every = (Request(row, view, item) for row, item in items for view in range(views))
    while batch := list(islice(every, batch_size)):
        yield batch


def encode_into(
    tokens: Tokens,
    encoder: Encoder,
    batches: Iterable[LoadedBatch],
    *,
    spec: StoreSpec,
    keys: Sequence[str],
    tick: Ticker,
) -> dict[str, str]:
    """Encode decoded batches into their rows and views.

    Args:
        tokens: (rows, V, L, D) of a shard, in the store's dtype; what fails stays as it is.
        encoder: where the tokens come from.
        batches: decoded media with their row and view.
        spec: of the store.
        keys: of the shard's rows.
        tick: told of each medium.

    Returns:
        key -> reason of the failed media.

    Raises:
        StoreError: a value that the dtype cannot hold; names its medium.
    """
    errors: dict[str, str] = {}
    for batch in batches:
        if batch.inputs is not None:
            vectors = encode(encoder, batch.inputs, spec)
            names = [keys[row] for row in batch.rows]
            every = np.ones(len(names), np.bool_)
            tokens[batch.rows, batch.views] = cast_rows(
                vectors, tokens.dtype.name, keys=names, valid=every
            )
        errors |= batch.errors
        tick(batch.media, f"{len(errors)} failed" if errors else "")
    return errors
