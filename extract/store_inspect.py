"""What a store holds, for people and programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from rich.table import Table

from epalm.cache.readers.epoch_order import BLOCK_ROWS
from epalm.cache.readers.reader_choice import ReadRequirements, fit_pool, pool_bytes
from epalm.cache.store import Store
from epalm.console import byte_size

BATCH_SIZE = 64
"""Examples per step of the published VQA recipe."""


@dataclass(frozen=True)
class Row:
    """One record of a store.

    Attributes:
        key: of the record.
        norms: Euclidean length of each layer's [CLS] in view 0; empty if the record failed.
        error: why it failed, if it did.
    """

    key: str
    norms: list[float]
    error: str


@dataclass(frozen=True)
class Inspection:
    """What a store holds.

    Attributes:
        store: path or URL.
        settings: every field that decides what the vectors are, and where they came from.
        shards: number of shards.
        missing: shards without a commit record.
        media_records: what finished shards say of their media files.
        failed: records without vectors.
        bytes: of all vectors.
        stream_bytes: of memory that training takes which reads them in shuffled blocks, one view
            of each record at `BATCH_SIZE` examples a step; reading all into memory takes `bytes`.
        rows: a few records of the first finished shard.
    """

    store: str
    settings: dict[str, str]
    shards: int
    missing: list[int]
    media_records: str
    failed: int
    bytes: int
    stream_bytes: int
    rows: list[Row]


def inspect(store: Store, *, rows: int) -> Inspection:
    """Look into a store.

    Args:
        store: finished or not.
        rows: how many records to show.

    Raises:
        CorruptShardError: the shard that the rows come from is damaged.
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
    return Inspection(
        store=store.location,
        settings={**spec.comparable(), "tasks": ", ".join(spec.tasks), **origin},
        shards=spec.shards,
        missing=missing,
        media_records=_media_records(store, missing),
        failed=len(store.failed_samples()),
        bytes=spec.nbytes,
        stream_bytes=pool_bytes(need, fit_pool(need, ram=2 * spec.nbytes)),
        rows=_rows(store, missing, count=rows),
    )


def tables(found: Inspection) -> Iterator[Table]:
    """The inspection as two tables, of settings and of rows."""
    settings = Table("setting", "value", title=found.store)
    for name, value in sorted(found.settings.items()):
        settings.add_row(name, value)
    settings.add_section()
    settings.add_row("media records", found.media_records)
    settings.add_row("shards", f"{found.shards}, {len(found.missing)} missing")
    settings.add_row("failed records", str(found.failed))
    settings.add_row("vectors", f"{byte_size(found.bytes)}, as much in memory with --reader ram")
    settings.add_row("--reader stream", f"{byte_size(found.stream_bytes)} of memory")
    yield settings
    if found.rows:
        rows = Table("key", "length of each layer's [CLS]", title="first rows, view 0")
        for row in found.rows:
            norms = "  ".join(f"{norm:.2f}" for norm in row.norms)
            rows.add_row(row.key, norms or f"failed: {row.error}")
        yield rows


def _media_records(store: Store, missing: list[int]) -> str:
    present = set(range(store.spec.shards)) - set(missing)
    known = sum(
        store.media_record_name(shard) in store.commit_record(shard).files for shard in present
    )
    if not known:
        return "none: unknown whether media files changed"
    columns = "size, time, SHA-256" if store.spec.content_hash else "size, time"
    return columns if known == len(present) else f"{columns} (of {known} shards)"


def _rows(store: Store, missing: list[int], *, count: int) -> list[Row]:
    lacking = set(missing)
    present = [shard for shard in range(store.spec.shards) if shard not in lacking]
    if not present or not count:
        return []
    places = store.spec.rows_of(present[0])
    tokens = store.load_shard(present[0])
    errors = store.commit_record(present[0]).errors
    return [
        Row(key, _norms(vectors[0, :: store.spec.positions]), errors.get(key, ""))
        for key, vectors in islice(zip(store.keys[places.start :], tokens, strict=False), count)
    ]


def _norms(vectors: np.ndarray) -> list[float]:
    """Lengths of (layers, D) vectors."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=-1)
    return [] if np.isnan(lengths).any() else [float(length) for length in lengths]
