"""Encode every medium once and store the tokens, shard by shard."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.dtype_cast import cast_features
from epalm.cache.formats.store_format import Features
from epalm.cache.media_check import read_media_record
from epalm.cache.records.media_record import MediaRecord
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import Ticker, progress
from epalm.errors import ModelError, Stopped
from epalm.extract.decoding.decode_pool import DecodePool, DecodeRequest, LoadedBatch, load_batches
from epalm.extract.decoding.media_files import described
from epalm.extract.encoders.encoder_registry import Encoder, normed_tokens
from epalm.extract.planning.process_shards import ALL, ProcessShard
from epalm.tasks.types import MediaItem

UNITS = {"image": "photos", "video": "clips", "audio": "recordings"}
"""What the media of a modality are called in progress lines."""


@dataclass(frozen=True)
class RunOptions:
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
class ExtractionReport:
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


@dataclass(frozen=True)
class Job:
    """A shard to make.

    Attributes:
        shard: its number.
        rows: within the shard, that are encoded.
        kept: within the shard, that keep the vectors they have.
        again: whether the shard is finished and made again.
    """

    shard: int
    rows: list[int]
    kept: list[int]
    again: bool

    @classmethod
    def of(cls, store: Store, shard: int, kept: Sequence[int] = (), *, again: bool = False) -> Self:
        """The job of encoding all rows of a shard but those that are kept."""
        every = range(len(store.spec.rows_of(shard)))
        return cls(shard, sorted(set(every) - set(kept)), list(kept), again)


class Made(NamedTuple):
    """What a job gave: vectors, key -> reason of failed media, media record."""

    tokens: Features
    errors: dict[str, str]
    media: MediaRecord


def extract(
    encoder: Encoder,
    items: Sequence[MediaItem],
    store: Store,
    *,
    pace: RunOptions,
    share: ProcessShard = ALL,
    root: Path = Path(),
    again: Mapping[int, Sequence[int]] | None = None,
    pool: DecodePool | None = None,
) -> ExtractionReport:
    """Fill the shards that the store misses, and finish it if no other process has to.

    A finished shard that is made again is withdrawn before it is written: should this be killed,
    the same run makes it as one that is missing.

    Args:
        encoder: where the tokens come from.
        items: the store's media, in the order of its rows.
        store: created with these media.
        pace: batch size, workers, display.
        share: the shards of this process; all by default.
        root: data root, which the names in media records are relative to.
        again: finished shards to make again -> rows within each that keep their vectors.
        pool: decoding processes that run already, in place of `pace.workers` new ones.

    Raises:
        Stopped: Ctrl-C or a termination signal; the same run goes on from there.
        ModelError: the device is out of memory.
        MediaError: no decoding process can be started.
        StoreError: the store cannot be written, or a value does not fit its dtype.
    """
    started = time.monotonic()
    missing = [shard for shard in store.missing_shards() if share.owns(shard)]
    jobs = [Job.of(store, shard) for shard in missing]
    jobs += [Job.of(store, shard, kept, again=True) for shard, kept in (again or {}).items()]
    jobs.sort(key=lambda job: job.shard)
    encoded = sum(len(job.rows) for job in jobs)
    unit = UNITS[encoder.modality]
    try:
        with progress("encoding", total=encoded, unit=unit, quiet=pace.quiet) as tick:
            _fill(encoder, items, store, jobs=jobs, pace=pace, root=root, tick=tick, pool=pool)
        left = len(store.missing_shards())
        failed = len(store.failed_samples()) if left else store.finish()
    except KeyboardInterrupt as stop:
        left = len({*store.missing_shards(), *(job.shard for job in jobs if job.again)})
        raise Stopped(
            f"stopped with {left} of {store.spec.shards} shards to do: run the same command "
            "again to resume"
        ) from stop
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{error}; finished shards are kept: use a smaller --batch-size"
        ) from error
    return ExtractionReport(
        records=store.spec.count,
        encoded=encoded,
        failed=failed,
        missing=left,
        seconds=time.monotonic() - started,
    )


def encode(encoder: Encoder, inputs: Tensor | NDArray[Any], spec: StoreSpec) -> NDArray[np.float32]:
    """(B, L, D) normed tokens of the blocks and positions that a store keeps."""
    with torch.inference_mode():
        blocks = encoder.blocks(
            torch.as_tensor(inputs), layers=spec.layers, positions=spec.positions
        )
        tokens = normed_tokens(blocks, encoder.norm)
    vectors: NDArray[np.float32] = tokens.float().cpu().numpy()
    return vectors


def _fill(
    encoder: Encoder,
    items: Sequence[MediaItem],
    store: Store,
    *,
    jobs: list[Job],
    pace: RunOptions,
    root: Path,
    tick: Ticker,
    pool: DecodePool | None,
) -> None:
    """Encode one shard while the one before it is written and the next one is decoded.

    What is written is removed from `jobs`.
    """
    spec, every = store.spec, tuple(jobs)
    media: dict[int, MediaRecord] = {}

    def requests() -> Iterator[Sequence[DecodeRequest]]:
        for job in every:
            media[job.shard] = _media_before(store, job)
            own = _requests(items, store, job, batch_size=pace.batch_size)
            yield from described(own, media[job.shard], root=root)

    batches = (
        pool.load(requests(), encoder.load)
        if pool
        else load_batches(requests(), encoder.load, workers=pace.workers)
    )
    written: Future[None] | None = None
    with closing(batches), ThreadPoolExecutor(max_workers=1) as writer:
        for job in every:
            own = islice(batches, -(-len(job.rows) * spec.views // pace.batch_size))
            if not job.again and store.has_shard(job.shard):  # another process has made it since
                tick(sum(batch.media for batch in own))
                continue
            tokens, rows = _tokens_before(store, job), spec.rows_of(job.shard)
            keys = store.keys[rows.start : rows.stop]
            errors = encode_into(tokens, encoder, own, spec=spec, keys=keys, tick=tick)
            if written:
                written.result()
            made = Made(tokens, errors, media.pop(job.shard))
            written = writer.submit(_write, store, job, made=made, jobs=jobs)
        if written:
            written.result()


def _media_before(store: Store, job: Job) -> MediaRecord:
    """The shard's media record, where only rows that keep their vectors are known."""
    rows = len(store.spec.rows_of(job.shard))
    record = MediaRecord.unknown(rows, hashed=store.spec.content_hash)
    if job.kept and (before := read_media_record(store, job.shard)):
        record.put(job.kept, before.take(job.kept))
    return record


def _tokens_before(store: Store, job: Job) -> Features:
    """(rows, V, L, D) NaN, save for the rows that keep their vectors."""
    shape = (len(store.spec.rows_of(job.shard)), *store.spec.row_shape)
    tokens = np.full(shape, np.nan, dtype=store.spec.dtype)
    if job.kept:
        tokens[job.kept] = store.load_shard(job.shard)[job.kept]
    return tokens


def _requests(
    items: Sequence[MediaItem], store: Store, job: Job, *, batch_size: int
) -> Iterator[list[DecodeRequest]]:
    first = store.spec.rows_of(job.shard).start
    own = ((row, items[first + row]) for row in job.rows)
    return batch_requests(own, store.spec.views, batch_size=batch_size)


def _write(store: Store, job: Job, *, made: Made, jobs: list[Job]) -> None:
    """Write a shard unless another process has made it since, and strike its job off the list."""
    if job.again:
        store.uncommit_shard(job.shard)
    if not store.has_shard(job.shard):
        store.write_shard(job.shard, made.tokens, made.errors, media=made.media)
    jobs.remove(job)


def batch_requests(
    items: Iterable[tuple[int, MediaItem]], views: int, *, batch_size: int
) -> Iterator[list[DecodeRequest]]:
    """Every view of every medium, in batches.

    Args:
        items: row within the shard, and the medium.
        views: V.
        batch_size: requests per batch; the last one may have fewer.
    """
    every = (DecodeRequest(row, view, item) for row, item in items for view in range(views))
    while batch := list(islice(every, batch_size)):
        yield batch


def encode_into(
    tokens: Features,
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
            tokens[batch.rows, batch.views] = cast_features(
                vectors, tokens.dtype.name, keys=names, valid=every
            )
        errors |= batch.errors
        tick(batch.media, f"{len(errors)} failed" if errors else "")
    return errors
