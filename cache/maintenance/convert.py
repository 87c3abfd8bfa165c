"""Convert stores into another one: another format, fewer layers, more views."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from epalm.cache.create_store import create_store
from epalm.cache.formats.store_format import Features
from epalm.cache.maintenance.media_check import read_media_table
from epalm.cache.maintenance.store_index import index_store
from epalm.cache.records.file_state import UNKNOWN
from epalm.cache.records.media_table import MediaTable
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.store import Store
from epalm.console import Ticker
from epalm.errors import CacheMismatchError, StoreError

VIEWS_SEED = "views.seed"
"""The fingerprint entry in which stores with different views differ."""


def convert(
    sources: Sequence[Store],
    target: str | Path,
    *,
    layers: Sequence[int] = (),
    store_format: str | None = None,
    tick: Ticker,
) -> Store:
    """Copy finished stores into one, shard by shard; an interrupted copy can be resumed.

    A local copy gets a sample index, whether the sources have one or not.

    Several sources must have the same samples, encoder and settings, and differ only in the seed of
    their views. The result has all views of the first source, then those of each other source
    without its view 0, which is the same in all of them.

    Args:
        sources: at least one store.
        target: path or URL of the result.
        layers: 0-based encoder blocks to keep; all if empty.
        store_format: "zarr" or "hdf5"; None infers it from the suffix of `target`.
        tick: called with the number of rows copied since the last call.

    Returns:
        The finished copy.

    Raises:
        UnfinishedStoreError: a source has missing shards.
        CacheMismatchError: the sources do not match each other, or another store is at `target`.
        StoreError: a source lacks some of `layers`, or the views 0 differ.
        CorruptShardError: a source is damaged.
    """
    first = sources[0]
    for source in sources:
        source.check_complete()
    for other in sources[1:]:
        _check_match(first, other)
    store = create_store(
        target,
        _merged_spec(sources, layers),
        first.keys,
        store_format=store_format,
        hint="Choose another --out.",
    )
    _copy(sources, store, tick=tick)
    store.finish()
    if "://" not in store.location:
        index_store(store)
    return store


def _copy(sources: Sequence[Store], target: Store, *, tick: Ticker) -> None:
    """Write the missing shards of the target."""
    spec = sources[0].spec
    indices = np.arange(spec.row_shape[1]).reshape(len(spec.layers), spec.positions)
    kept = indices[np.isin(spec.layers, target.spec.layers)].ravel()
    failed = {key: why for source in sources for key, why in source.failed_samples().items()}
    readers = [_SequentialReader(source) for source in sources]
    for shard in target.missing_shards():
        rows = target.spec.rows_of(shard)
        features = _merge_views([reader.read(rows) for reader in readers])
        keys = target.keys[rows.start : rows.stop]
        errors = {key: failed[key] for key in keys if key in failed}
        media = _merge_media([_read_media_rows(source, rows) for source in sources])
        target.write_shard(shard, np.ascontiguousarray(features[:, :, kept]), errors, media=media)
        tick(len(rows))


def _read_media_rows(store: Store, rows: range) -> MediaTable:
    """The media table of consecutive rows, which may span several shards."""
    spec = store.spec
    table = MediaTable.unknown(len(rows), hashed=spec.content_hash)
    for shard in range(rows.start // spec.shard_rows, (rows.stop - 1) // spec.shard_rows + 1):
        shard_rows = spec.rows_of(shard)
        common = range(max(rows.start, shard_rows.start), min(rows.stop, shard_rows.stop))
        if shard_table := read_media_table(store, shard):
            part = shard_table.take([row - shard_rows.start for row in common])
            table.put([row - rows.start for row in common], part)
    return table


def _merge_media(parts: Sequence[MediaTable]) -> MediaTable | None:
    """The rows that all parts agree on, the others unknown; None if all are unknown."""
    merged = MediaTable.unknown(
        len(parts[0]), hashed=all(part.hashes is not None for part in parts)
    )
    equal = np.ones(len(merged), np.bool_)
    for part in parts[1:]:
        equal &= (part.names == parts[0].names) & (part.numbers == parts[0].numbers).all(axis=1)
    rows = np.flatnonzero(equal)
    merged.put(rows, parts[0].take(rows))
    return None if (merged.sizes == UNKNOWN).all() else merged


class _SequentialReader:
    """Reads ascending ranges of rows; each shard is loaded once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._shard = -1
        self._features: Features = np.empty(0, dtype=store.spec.dtype)

    def read(self, rows: range) -> Features:
        """(rows, V, L, D)."""
        spec = self._store.spec
        out = np.empty((len(rows), *spec.row_shape), dtype=spec.dtype)
        for shard in range(rows.start // spec.shard_rows, (rows.stop - 1) // spec.shard_rows + 1):
            shard_rows = self._load(shard)
            start, stop = max(rows.start, shard_rows.start), min(rows.stop, shard_rows.stop)
            part = self._features[start - shard_rows.start : stop - shard_rows.start]
            out[start - rows.start : stop - rows.start] = part
        return out

    def _load(self, shard: int) -> range:
        """Load a shard unless it is already in memory; its rows."""
        if shard != self._shard:
            self._features = self._store.load_shard(shard)
            self._shard = shard
        return self._store.spec.rows_of(shard)


def _check_match(first: Store, other: Store) -> None:
    """Refuse a store that differs from the first one in more than its views."""
    fingerprint = dict(other.spec.fingerprint)
    fingerprint.pop(VIEWS_SEED, None)
    if VIEWS_SEED in first.spec.fingerprint:
        fingerprint[VIEWS_SEED] = first.spec.fingerprint[VIEWS_SEED]
    if first.spec.fingerprint.get(VIEWS_SEED) == other.spec.fingerprint.get(VIEWS_SEED):
        raise CacheMismatchError(
            f"{other.location} has the same views as {first.location}, of the same --seed: merge "
            "stores of different seeds"
        )
    wanted = replace(first.spec, views=other.spec.views, shard_rows=other.spec.shard_rows)
    replace(other.spec, fingerprint=fingerprint).check_same(
        wanted,
        where=other.location,
        hint="Stores can be merged only if they differ in nothing but --views and --seed.",
    )
    if first.keys != other.keys:
        raise CacheMismatchError(f"{other.location} has other samples than {first.location}")


def _merged_spec(sources: Sequence[Store], layers: Sequence[int]) -> StoreSpec:
    spec = sources[0].spec
    missing = set(layers) - set(spec.layers)
    if missing:
        raise StoreError(
            f"{sources[0].location} has no layers {sorted(missing)}, it has {list(spec.layers)}"
        )
    seeds = [source.spec.fingerprint.get(VIEWS_SEED, "") for source in sources]
    counts = [source.spec.views for source in sources]
    merged_seed = " + ".join(f"{seed} ({views})" for seed, views in zip(seeds, counts, strict=True))
    merged = replace(
        spec,
        layers=tuple(layer for layer in spec.layers if layer in layers) if layers else spec.layers,
        views=sum(counts) - len(sources) + 1,
        fingerprint=spec.fingerprint
        if len(sources) == 1
        else {**spec.fingerprint, VIEWS_SEED: merged_seed},
        content_hash=all(source.spec.content_hash for source in sources),
    )
    return replace(merged, shard_rows=fit_shard_rows(merged.count, merged.row_bytes))


def _merge_views(parts: Sequence[Features]) -> Features:
    """(rows, total number of views, L, D)."""
    for part in parts[1:]:
        if not np.array_equal(part[:, 0], parts[0][:, 0], equal_nan=True):
            raise StoreError(
                "view 0 differs between the stores: extract all of them on the same machine"
            )
    return np.concatenate([parts[0], *(part[:, 1:] for part in parts[1:])], axis=1)
