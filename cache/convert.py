"""One store made from others: another format, fewer layers, more views."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from epalm.cache.create_store import create_store
from epalm.cache.formats.store_format import Tokens
from epalm.cache.readers.memory_reader import load_shard
from epalm.cache.records.media_check import read_media_record
from epalm.cache.records.media_record import UNKNOWN, MediaRecord
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.store import Store
from epalm.console import Ticker
from epalm.errors import CacheMismatchError, StoreError, UnfinishedStoreError

SEEDS = "views.seed"
"""The entry of the fingerprint that tells the views of two stores apart."""


def convert(
    sources: Sequence[Store],
    target: str | Path,
    *,
    layers: Sequence[int] = (),
    store_format: str | None = None,
    tick: Ticker,
) -> Store:
    """Copy finished stores into one, shard by shard; run again, it goes on where it was stopped.

    Several sources hold the same records, encoder and settings and differ in the seed of their
    views: the result has the views of the first, then those of each other one but its view 0,
    which is the same in all of them.

    Args:
        sources: at least one store.
        target: path or URL of the result.
        layers: the encoder's blocks to keep; all if empty.
        store_format: "zarr" or "hdf5"; None goes by the end of `target`.
        tick: told of each copied record.

    Raises:
        UnfinishedStoreError: a source misses shards.
        CacheMismatchError: the sources do not go together, or another store is at `target`.
        StoreError: a source has not all of `layers`, or the views 0 differ.
        CorruptShardError: a source is damaged.
    """
    first = sources[0]
    for source in sources:
        _check_finished(source)
    for other in sources[1:]:
        _check_fits(first, other)
    store = create_store(
        target,
        _merged_spec(sources, layers),
        first.keys,
        store_format=store_format,
        mend="Choose another --out.",
    )
    _copy(sources, store, tick=tick)
    store.finish()
    return store


def _copy(sources: Sequence[Store], target: Store, *, tick: Ticker) -> None:
    """Write the shards that the target misses."""
    spec = sources[0].spec
    vectors = np.arange(spec.row_shape[1]).reshape(len(spec.layers), spec.positions)
    places = vectors[np.isin(spec.layers, target.spec.layers)].ravel()
    failed = {key: why for source in sources for key, why in source.failed().items()}
    readers = [_Rows(source) for source in sources]
    for shard in target.missing():
        rows = target.spec.rows_of(shard)
        tokens = _merge_views([reader.read(rows) for reader in readers])
        keys = target.keys[rows.start : rows.stop]
        errors = {key: failed[key] for key in keys if key in failed}
        media = _merge_media([_media_of(source, rows) for source in sources])
        target.write(shard, np.ascontiguousarray(tokens[:, :, places]), errors, media=media)
        tick(len(rows))


def _media_of(store: Store, rows: range) -> MediaRecord:
    """What was recorded of the media files of consecutive rows."""
    spec = store.spec
    record = MediaRecord.unknown(len(rows), hashed=spec.content_hash)
    for shard in range(rows.start // spec.shard_rows, (rows.stop - 1) // spec.shard_rows + 1):
        held = spec.rows_of(shard)
        common = range(max(rows.start, held.start), min(rows.stop, held.stop))
        if found := read_media_record(store, shard):
            own = found.take([row - held.start for row in common])
            record.put([row - rows.start for row in common], own)
    return record


def _merge_media(parts: Sequence[MediaRecord]) -> MediaRecord | None:
    """What all parts agree on; None if that is nothing."""
    merged = MediaRecord.unknown(
        len(parts[0]), hashed=all(part.hashes is not None for part in parts)
    )
    same = np.ones(len(merged), np.bool_)
    for part in parts[1:]:
        same &= (part.names == parts[0].names) & (part.numbers == parts[0].numbers).all(axis=1)
    agreed = np.flatnonzero(same)
    merged.put(agreed, parts[0].take(agreed))
    return None if (merged.sizes == UNKNOWN).all() else merged


class _Rows:
    """Consecutive rows of a store whose shards are read once each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shard = -1
        self._tokens: Tokens = np.empty(0, dtype=store.spec.dtype)

    def read(self, rows: range) -> Tokens:
        """(rows, V, L, D)."""
        spec = self._store.spec
        out = np.empty((len(rows), *spec.row_shape), dtype=spec.dtype)
        for shard in range(rows.start // spec.shard_rows, (rows.stop - 1) // spec.shard_rows + 1):
            held = self._load(shard)
            start, stop = max(rows.start, held.start), min(rows.stop, held.stop)
            found = self._tokens[start - held.start : stop - held.start]
            out[start - rows.start : stop - rows.start] = found
        return out

    def _load(self, shard: int) -> range:
        held = self._store.spec.rows_of(shard)
        if shard != self._shard:
            self._tokens = load_shard(self._store, shard)
            self._shard = shard
        return held


def _check_finished(store: Store) -> None:
    missing = store.missing()
    if missing:
        raise UnfinishedStoreError(
            f"{store.location} misses {len(missing)} of {store.spec.shards} shards: run the same "
            "`epalm-extract` command again to complete it"
        )


def _check_fits(first: Store, other: Store) -> None:
    mend = "Stores can be merged that differ in --views and --seed alone."
    fingerprint = {name: text for name, text in other.spec.fingerprint.items() if name != SEEDS}
    fingerprint |= {name: text for name, text in first.spec.fingerprint.items() if name == SEEDS}
    if first.spec.fingerprint.get(SEEDS) == other.spec.fingerprint.get(SEEDS):
        raise CacheMismatchError(
            f"{other.location} has the views of {first.location} again, of the same --seed: "
            "views of another seed can be added"
        )
    wanted = replace(
        first.spec,
        views=other.spec.views,
        shard_rows=other.spec.shard_rows,
    )
    replace(other.spec, fingerprint=fingerprint).check_same(wanted, where=other.location, mend=mend)
    if first.keys != other.keys:
        raise CacheMismatchError(f"{other.location} holds other records than {first.location}")


def _merged_spec(sources: Sequence[Store], layers: Sequence[int]) -> StoreSpec:
    spec = sources[0].spec
    lacking = set(layers) - set(spec.layers)
    if lacking:
        raise StoreError(
            f"{sources[0].location} has no layers {sorted(lacking)}, it has {list(spec.layers)}"
        )
    seeds = [source.spec.fingerprint.get(SEEDS, "") for source in sources]
    counts = [source.spec.views for source in sources]
    merged = " + ".join(f"{seed} ({views})" for seed, views in zip(seeds, counts, strict=True))
    fingerprint = spec.fingerprint if len(sources) == 1 else {**spec.fingerprint, SEEDS: merged}
    changed = replace(
        spec,
        layers=tuple(layer for layer in spec.layers if layer in layers) if layers else spec.layers,
        views=sum(counts) - len(sources) + 1,
        fingerprint=fingerprint,
        content_hash=all(source.spec.content_hash for source in sources),
    )
    return replace(changed, shard_rows=fit_shard_rows(changed.count, changed.row_bytes))


def _merge_views(parts: Sequence[Tokens]) -> Tokens:
    """(rows, V of all, L, D)."""
    for part in parts[1:]:
        if not np.array_equal(part[:, 0], parts[0][:, 0], equal_nan=True):
            raise StoreError("the views 0 of the stores differ: were they made on one machine?")
    return np.concatenate([parts[0], *(part[:, 1:] for part in parts[1:])], axis=1)
