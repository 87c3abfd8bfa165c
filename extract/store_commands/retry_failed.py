"""Encode the failed samples of a store again, without changing the others."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from epalm.cache.maintenance.media_check import read_media_table
from epalm.cache.records.media_table import MediaTable
from epalm.cache.store import Store
from epalm.console import Ticker, progress
from epalm.extract.decoding.decode_batch import batch_requests
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.decoding.media_files import record_files
from epalm.extract.encoders.recorded_encoder import RecordedEncoder
from epalm.extract.planning.extract_inputs import read_inputs
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.extraction_plan import Plan, make_plan
from epalm.extract.planning.recorded_options import recorded_options
from epalm.extract.planning.store_rows import RowItems, match_rows
from epalm.extract.run_extraction import encode_into
from epalm.extract.store_commands.retry_options import RetryOptions


@dataclass(frozen=True)
class RetryReport:
    """The result of encoding failed samples again.

    Attributes:
        tried: number of samples that had failed.
        encoded: number of these that have features now.
        failed: key -> reason of the others.
    """

    tried: int
    encoded: int
    failed: Mapping[str, str]


def retry_failed(store: Store, options: RetryOptions) -> RetryReport:
    """Encode the failed samples of a finished store again and rewrite their shards.

    A shard is withdrawn before it is rewritten. If the process is killed in between, the same
    extraction encodes that shard again.

    Args:
        store: the finished store at `options.location`, with all its rows.
        options: encoder, dataset, weights and data root, where they differ from those recorded in
            the store, which may not name code.

    Raises:
        UnfinishedStoreError: shards are missing.
        CacheMismatchError: encoder or dataset differ from those of the store.
    """
    store.check_complete()
    tried = store.failed_samples()
    if not tried:
        return RetryReport(0, 0, {})
    given = {
        field.name: value
        for field in fields(options)
        if field.name != "location" and (value := getattr(options, field.name))
    }
    plan = make_plan(read_inputs(replace(_recorded_options(store), **given)))
    advice = "Give the weights and the data of that extraction with --weights and --data-root."
    wanted = plan.spec.grown_to(store.spec.count).in_shards_of(store.spec.shard_rows)
    store.spec.check_same(wanted, where=store.location, hint=advice)
    items = match_rows(plan.items, store)
    with progress("encoding", total=len(tried), unit=plan.unit, quiet=options.quiet) as tick:
        for shard in range(store.spec.shards):
            if store.commit_record(shard).errors:
                _retry_shard(store, shard, items, plan=plan, tick=tick)
    store.finish()
    failed = store.failed_samples()
    return RetryReport(len(tried), len(tried) - len(failed), failed)


def _recorded_options(store: Store) -> ExtractOptions:
    """The options of the extraction that made the store, from its fingerprint."""
    spec = store.spec
    fingerprint: Mapping[str, Any] = spec.fingerprint  # values are checked where they are used
    recorded = RecordedEncoder.from_fields(spec.comparable())
    return replace(
        recorded_options(recorded, weights=spec.weights, dtype=spec.dtype),
        out=store.location,
        dataset=spec.media,
        tokens=spec.tokens,
        views=spec.views,
        augmentation=fingerprint.get("views.augmentation", "official"),
        seed=recorded.number("views.seed") or 0,
        data_root=Path(spec.data_root),
    )


def _retry_shard(store: Store, shard: int, items: RowItems, *, plan: Plan, tick: Ticker) -> None:
    """Encode the failed samples of a shard; those that are not in the dataset stay failed."""
    rows = store.spec.rows_of(shard)
    errors = dict(store.commit_record(shard).errors)
    tokens = store.load_shard(shard)
    keys = store.keys[rows.start : rows.stop]
    row_items = enumerate(items[rows.start : rows.stop])
    failed = [(row, item) for row, item in row_items if item and keys[row] in errors]
    for row, _ in failed:
        del errors[keys[row]]
    options = plan.run_options
    requests = batch_requests(failed, store.spec.views, batch_size=options.batch_size)
    unknown = MediaTable.unknown(len(rows), hashed=store.spec.content_hash)
    media = read_media_table(store, shard) or unknown
    recorded = record_files(requests, media, root=plan.root)
    batches = load_batches(recorded, plan.encoder.load, workers=options.workers)
    with closing(batches):
        errors |= encode_into(tokens, plan.encoder, batches, spec=store.spec, keys=keys, tick=tick)
    store.uncommit_shard(shard)
    store.write_shard(shard, tokens, errors, media=media)
