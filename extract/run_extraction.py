"""Encode every sample once and store its features, shard by shard."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.formats.dtype_cast import cast_features
from epalm.cache.formats.store_format import Features
from epalm.cache.records.media_table import MediaTable
from epalm.cache.store import Store
from epalm.console import Ticker, progress
from epalm.errors import ModelError
from epalm.extract.decoding.decode_batch import DecodeRequest, LoadedBatch, batch_requests
from epalm.extract.decoding.decode_pool import DecodePool, load_batches
from epalm.extract.decoding.media_files import record_files
from epalm.extract.encoders.encoder_registry import Encoder, normed_tokens
from epalm.extract.indexing.deferred_files import deferred_files_written
from epalm.extract.planning.extraction_plan import UNITS, RunOptions
from epalm.extract.planning.extraction_result import ExtractionReport, stopped_error
from epalm.extract.planning.process_shards import ALL, ProcessShard
from epalm.extract.planning.shard_jobs import (
    Job,
    allocate_tokens,
    blank_rows,
    initial_errors,
    initial_media,
    plan_jobs,
)
from epalm.extract.planning.store_rows import RowItems


class EncodedShard(NamedTuple):
    """The result of a job: features, key -> reason of each failed sample, media table."""

    tokens: Features
    errors: dict[str, str]
    media: MediaTable


def extract(
    encoder: Encoder,
    items: RowItems,
    store: Store,
    *,
    options: RunOptions,
    process_shard: ProcessShard = ALL,
    root: Path = Path(),
    reencode: Mapping[int, Sequence[int]] | None = None,
    pool: DecodePool | None = None,
) -> ExtractionReport:
    """Encode the missing shards, and finish the store when no shard is missing any more.

    A finished shard that is encoded again is withdrawn before it is written. If the process is
    killed in between, the next run encodes it as a missing shard.

    Args:
        encoder: computes the features.
        items: the sample of each row of the store; None if the dataset does not have it. Such a
            row is kept if it is finished, and fails otherwise.
        store: created for these samples.
        options: batch size, workers, progress display.
        process_shard: the shards that this process encodes; all by default.
        root: data root; names in media tables are relative to it.
        reencode: finished shards to encode again -> rows within each that keep their features.
        pool: running decoding processes, used instead of `options.workers` new ones.

    Raises:
        Stopped: Ctrl-C or a termination signal; the same run resumes.
        ModelError: the device is out of memory.
        MediaError: no decoding process can be started.
        StoreError: the store cannot be written, or a value does not fit its dtype.
    """
    started = time.monotonic()
    jobs = plan_jobs(store, items, process_shard, reencode or {})
    encoded = sum(len(job.rows) for job in jobs)
    unit = UNITS[encoder.modality]
    try:
        with (
            progress("encoding", total=encoded, unit=unit, quiet=options.quiet) as tick,
            memory_advice(),
            deferred_files_written(store, at_once=process_shard.rank == 0),
        ):
            encode_jobs(
                encoder, items, store, jobs=jobs, options=options, root=root, tick=tick, pool=pool
            )
        left, failed = finish_or_count(store)
    except KeyboardInterrupt as stop:
        left = len({*store.missing_shards(), *(job.shard for job in jobs if job.reencode)})
        raise stopped_error(left, store.spec.shards) from stop
    return ExtractionReport(
        records=store.spec.count,
        encoded=encoded,
        failed=failed,
        missing=left,
        seconds=time.monotonic() - started,
    )


def finish_or_count(store: Store) -> tuple[int, int]:
    """Finish the store if no shard is missing; (number of missing shards, of failed samples)."""
    listing = store.list_records()
    if not listing.missing:
        return 0, store.finish()
    failed = len(store.failed_samples(listing))
    store.write_summary()
    return len(listing.missing), failed


@contextmanager
def memory_advice() -> Iterator[None]:
    """Explain what to do if the device is out of memory.

    Raises:
        ModelError: gives the advice.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{error}; finished shards are kept: use a smaller --batch-size"
        ) from error


class StoredTokens(Protocol):
    """The blocks and tokens that features have: of a store's spec, or of an encoder."""

    @property
    def layers(self) -> tuple[int, ...]:
        """0-based numbers of the blocks, ascending."""

    @property
    def positions(self) -> int:
        """Number of tokens per block."""


def encode(
    encoder: Encoder, inputs: Tensor | NDArray[Any], spec: StoredTokens
) -> NDArray[np.float32]:
    """Compute the features of a batch: (B, L, D) normed tokens of the store's blocks."""
    with torch.inference_mode():
        blocks = encoder.blocks(
            torch.as_tensor(inputs), layers=spec.layers, positions=spec.positions
        )
        tokens = normed_tokens(blocks, encoder.norm)
    features: NDArray[np.float32] = tokens.float().cpu().numpy()
    return features


def encode_jobs(
    encoder: Encoder,
    items: RowItems,
    store: Store,
    *,
    jobs: list[Job],
    options: RunOptions,
    root: Path,
    tick: Ticker,
    pool: DecodePool | None,
) -> None:
    """Encode a shard while the previous one is written and the next one is decoded.

    Args:
        encoder: computes the features.
        items: the sample of each row of the store.
        store: where the shards are written.
        jobs: the shards to encode; each is removed from the list when it is written.
        options: batch size, workers.
        root: data root; names in media tables are relative to it.
        tick: progress display, advanced by the number of samples.
        pool: running decoding processes, used instead of `options.workers` new ones.
    """
    spec, all_jobs = store.spec, tuple(jobs)
    media: dict[int, MediaTable] = {}

    def requests() -> Iterator[Sequence[DecodeRequest]]:
        for job in all_jobs:
            media[job.shard] = initial_media(store, job)
            shard_requests = _requests(items, store, job, batch_size=options.batch_size)
            yield from record_files(shard_requests, media[job.shard], root=root)

    batches = (
        pool.load(requests(), encoder.load)
        if pool
        else load_batches(requests(), encoder.load, workers=options.workers)
    )
    written: Future[None] | None = None
    with closing(batches), ThreadPoolExecutor(max_workers=1) as writer:
        for job in all_jobs:
            shard_batches = islice(batches, -(-len(job.rows) * spec.views // options.batch_size))
            if not job.reencode and store.has_shard(job.shard):  # written by another process
                tick(sum(batch.samples for batch in shard_batches))
                continue
            tokens, errors = _encode_shard(encoder, store, job, batches=shard_batches, tick=tick)
            if written:
                written.result()
            result = EncodedShard(tokens, errors, media.pop(job.shard))
            written = writer.submit(write_result, store, job, result=result, jobs=jobs)
            del result, tokens  # the writer frees the memory, while the next shard is encoded
        if written:
            written.result()


def _encode_shard(
    encoder: Encoder, store: Store, job: Job, *, batches: Iterable[LoadedBatch], tick: Ticker
) -> tuple[Features, dict[str, str]]:
    """Encode the decoded batches of a job: features, and key -> reason of each failed sample."""
    tokens, first = allocate_tokens(store, job)
    rows = store.spec.rows_of(job.shard)
    keys = store.keys[rows.start : rows.stop]
    errors = initial_errors(job, keys)
    batches = blank_rows(tokens, batches, first)
    errors |= encode_into(tokens, encoder, batches, spec=store.spec, keys=keys, tick=tick)
    tokens[[row for row, key in enumerate(keys) if key in errors]] = np.nan
    return tokens, errors


def _requests(
    items: RowItems, store: Store, job: Job, *, batch_size: int
) -> Iterator[list[DecodeRequest]]:
    first = store.spec.rows_of(job.shard).start
    samples = ((row, items[first + row]) for row in job.rows)
    rows = ((row, item) for row, item in samples if item is not None)
    return batch_requests(rows, store.spec.views, batch_size=batch_size)


def write_result(store: Store, job: Job, *, result: EncodedShard, jobs: list[Job]) -> None:
    """Write a shard unless another process has written it meanwhile, and remove its job."""
    if job.reencode:
        store.uncommit_shard(job.shard)
    if not store.has_shard(job.shard):
        store.write_shard(job.shard, result.tokens, result.errors, media=result.media)
    jobs.remove(job)


def encode_into(
    tokens: Features,
    encoder: Encoder,
    batches: Iterable[LoadedBatch],
    *,
    spec: StoredTokens,
    keys: Sequence[str],
    tick: Ticker,
) -> dict[str, str]:
    """Encode decoded batches into their rows and views of a shard.

    Args:
        tokens: (rows, V, L, D) features of a shard in the store's dtype, changed in place. Rows of
            failed samples stay as they are.
        encoder: computes the features.
        batches: decoded samples with their row and view.
        spec: the blocks and tokens that features have.
        keys: keys of the shard's rows.
        tick: progress display, advanced by the number of samples.

    Returns:
        Key -> reason of each failed sample.

    Raises:
        StoreError: a value does not fit the dtype; names the sample.
    """
    errors: dict[str, str] = {}
    for batch in batches:
        if batch.inputs is not None:
            features = encode(encoder, batch.inputs, spec)
            batch_keys = [keys[row] for row in batch.rows]
            valid = np.ones(len(batch_keys), np.bool_)
            tokens[batch.rows, batch.views] = cast_features(
                features, tokens.dtype.name, keys=batch_keys, valid=valid
            )
        errors |= batch.errors
        tick(batch.samples, f"{len(errors)} failed" if errors else "")
    return errors
