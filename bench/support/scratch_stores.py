"""Temporary stores of random features; each row contains its number."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from epalm.cache.create_store import create_store
from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.spec import SHARD_ROWS, StoreSpec
from epalm.cache.store import Store

BASE = 2048
"""Integers up to this value are exact in float16; two of them encode a row number."""

LAYERS = 6
WIDTH = 768
"""Width of ViT-B/16; a row has 9,216 bytes in float16."""


def scratch_spec(rows: int, *, width: int = WIDTH, shard_rows: int = SHARD_ROWS) -> StoreSpec:
    """Specification of a temporary store."""
    return StoreSpec(
        dataset="random",
        encoder="none",
        fingerprint={"values": "normal, seed 0"},
        layers=tuple(range(LAYERS)),
        width=width,
        count=rows,
        shard_rows=shard_rows,
    )


def scratch_keys(rows: int) -> list[str]:
    """Keys with the length of COCO's."""
    return [f"val2014/COCO_val2014_{row:012d}.jpg" for row in range(rows)]


def make_store(location: Path, spec: StoreSpec) -> Store:
    """A finished store of numbered rows, synced to disk."""
    store = create_store(location, spec, scratch_keys(spec.count))
    noise = random_tokens(spec)
    for shard in range(spec.shards):
        store.write_shard(shard, number_rows(noise, spec.rows_of(shard)), {})
    store.finish()
    return store


def random_tokens(spec: StoreSpec) -> Features:
    """(shard_rows, V, L, D) float16 normal noise."""
    shape = (spec.shard_rows, *spec.row_shape)
    random = np.random.default_rng(0)
    return random.standard_normal(shape, dtype=np.float32).astype(spec.dtype)


def number_rows(noise: Features, rows: range) -> Features:
    """A view of `noise` whose rows have their number in their first two values."""
    numbers = np.arange(rows.start, rows.stop)
    tokens = noise[: len(rows)]
    tokens[:, 0, 0, 0], tokens[:, 0, 0, 1] = np.divmod(numbers, BASE)
    return tokens


def row_numbers(tokens: Features) -> Rows:
    """(B,) row numbers of (B, L, D) features."""
    digits: NDArray[np.intp] = tokens[:, 0, :2].astype(np.intp)
    return digits[:, 0] * BASE + digits[:, 1]


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """A temporary folder in `folder`, by default in the system's folder for temporary files."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="epalm-bench-", dir=folder) as name:
        yield Path(name)
