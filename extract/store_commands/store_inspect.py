"""Settings, counts, records and memory of a store, as tables and as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from rich.table import Table

from epalm.cache.readers.epoch_order import BLOCK_ROWS
from epalm.cache.readers.reader_choice import ReadRequirements, fit_pool, pool_bytes
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import byte_size, counted

BATCH_SIZE = 64
"""Batch size of the published VQA recipe."""


@dataclass(frozen=True)
class Row:
    """One record of a store.

    Attributes:
        key: key of the record.
        norms: Euclidean norm of each layer's first token in view 0; empty if the record failed.
        error: reason of the failure; empty if the record did not fail.
    """

    key: str
    norms: list[float]
    error: str


@dataclass(frozen=True)
class Inspection:
    """A summary of a store.

    Attributes:
        store: path or URL of the store.
        settings: settings that determine the features, and where the samples came from.
        growth: number of records after each extraction that has added some; one number if none has.
        shards: number of shards.
        missing: numbers of the shards without a commit record.
        media_records: what finished shards record about their media files.
        failed: number of records without features.
        bytes: size of all features.
        stream_bytes: memory for training from shuffled blocks, with one view of each record and
            `BATCH_SIZE` examples per step. Reading all features into memory takes `bytes`.
        rows: the first records of the first finished shard.
        class_token_first: whether the first token of each layer is [CLS].
    """

    store: str
    settings: dict[str, str]
    growth: tuple[int, ...]
    shards: int
    missing: list[int]
    media_records: str
    failed: int
    bytes: int
    stream_bytes: int
    rows: list[Row]
    class_token_first: bool


def inspect(store: Store, *, rows: int) -> Inspection:
    """Summarize a store.

    Args:
        store: finished or unfinished store.
        rows: number of records to include.

    Raises:
        CorruptShardError: the shard of these records is damaged.
    """
    spec = store.spec
    missing = store.missing_shards()
    need = ReadRequirements(
        nbytes=spec.nbytes,
        view_bytes=spec.row_bytes // spec.views,
        blocks=-(-spec.count // BLOCK_ROWS),
        batch_size=BATCH_SIZE,
    )
    origin = {"data_root": spec.data_root, "media": spec.media, "weights": spec.weights}
    more = {"tokens": _tokens(spec), "tasks": ", ".join(spec.tasks)}
    return Inspection(
        store=store.location,
        settings={**spec.comparable(), **more, **origin},
        growth=store.generations.counts,
        shards=spec.shards,
        missing=missing,
        media_records=_media_tables(store, missing),
        failed=len(store.failed_samples()),
        bytes=spec.nbytes,
        stream_bytes=pool_bytes(need, fit_pool(need, ram=2 * spec.nbytes)),
        rows=_rows(store, missing, count=rows),
        class_token_first=spec.class_token_first,
    )


def tables(inspection: Inspection) -> Iterator[Table]:
    """The inspection as two tables: settings and records."""
    settings = Table("setting", "value", title=inspection.store)
    for name, value in sorted(inspection.settings.items()):
        settings.add_row(name, value)
    settings.add_section()
    settings.add_row("media tables", inspection.media_records)
    settings.add_row("shards", f"{inspection.shards}, {len(inspection.missing)} missing")
    settings.add_row("records", " -> ".join(map(str, inspection.growth)))
    settings.add_row("failed records", str(inspection.failed))
    settings.add_row("features", f"{byte_size(inspection.bytes)}, also in memory with --reader ram")
    settings.add_row("--reader stream", f"{byte_size(inspection.stream_bytes)} of memory")
    yield settings
    if inspection.rows:
        first = "[CLS]" if inspection.class_token_first else "first token"
        rows = Table("key", f"norm of each layer's {first}", title="first rows, view 0")
        for row in inspection.rows:
            norms = "  ".join(f"{norm:.2f}" for norm in row.norms)
            rows.add_row(row.key, norms or f"failed: {row.error}")
        yield rows


def _tokens(spec: StoreSpec) -> str:
    return f"{spec.tokens} ({counted(spec.positions, 'token')} per layer)"


def _media_tables(store: Store, missing: list[int]) -> str:
    present = set(range(store.spec.shards)) - set(missing)
    known = sum(
        store.media_table_name(shard) in store.commit_record(shard).files for shard in present
    )
    if not known:
        return "none: unknown whether media files changed"
    columns = "size, time, SHA-256" if store.spec.content_hash else "size, time"
    return columns if known == len(present) else f"{columns} (of {known} shards)"


def _rows(store: Store, missing: list[int], *, count: int) -> list[Row]:
    absent = set(missing)
    present = [shard for shard in range(store.spec.shards) if shard not in absent]
    if not present or not count:
        return []
    shard_rows = store.spec.rows_of(present[0])
    tokens = store.load_shard(present[0])
    errors = store.commit_record(present[0]).errors
    return [
        Row(key, _norms(views[0, :: store.spec.positions]), errors.get(key, ""))
        for key, views in islice(zip(store.keys[shard_rows.start :], tokens, strict=False), count)
    ]


def _norms(tokens: np.ndarray) -> list[float]:
    """Euclidean norms of (layers, D) tokens; empty if one is NaN."""
    norms = np.linalg.norm(tokens.astype(np.float64), axis=-1)
    return [] if np.isnan(norms).any() else [float(norm) for norm in norms]
