"""What a feature store holds, in words that can be compared."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from epalm.errors import CacheMismatchError, StoreError

STORE_VERSION = 1
"""Version of the layout on disk; a reader refuses any other."""

SHARD_ROWS = 8192
"""Rows per shard: 75.5 MB at 6 x 768 in float16. Its size hardly changes the writing speed."""

MANY_ROWS = 10_000_000
"""Above so many records a shard has four times the rows, to keep the number of files down."""

SHARD_BYTES = 320_000_000
"""No shard is larger, whatever a row takes: two of them are in memory during extraction."""

CHUNK_ROWS = 64
"""Rows per inner chunk; below 64 the per-chunk cost dominates writing."""

DTYPES = ("float16", "float32")

MOST = {"count": 10**10, "views": 10_000, "positions": 10**6, "width": 1 << 16}
"""Largest values of a store's numbers. They are far from any store there is; what is above them
cannot be listed, much less held in memory, and was not written by this program."""

MOST_LAYERS = 10_000

MOST_SHARDS = 10**7

MOST_SHARD_BYTES = 1 << 36
"""No shard of any store is as large (64 GiB); those of extraction have `SHARD_BYTES` at most."""


DIGESTED_KEYS = 8192
"""Keys that the digest takes at once; a call for each would take longer."""

SMALL_SHARD_ROWS = 512
"""Rows per shard below which a small store is not divided further."""


def fit_shard_rows(count: int, row_bytes: int) -> int:
    """Rows per shard for a store of `count` records of `row_bytes` each, in whole chunks.

    About eight shards for a small store, so that a stopped extraction loses little; never more
    than the store holds.

    Raises:
        StoreError: not even one chunk fits into `SHARD_BYTES`.
    """
    fitting = SHARD_BYTES // (CHUNK_ROWS * row_bytes)
    if not fitting:
        raise StoreError(
            f"a record takes {row_bytes / 1e6:.1f} MB, and {CHUNK_ROWS} of them more than a "
            f"shard's {SHARD_BYTES / 1e6:.0f} MB: keep fewer blocks with --source-layers, fewer "
            "--views, or --tokens cls"
        )
    largest = SHARD_ROWS if count <= MANY_ROWS else 4 * SHARD_ROWS
    rows = min(max(-(-count // 8), SMALL_SHARD_ROWS), largest, count)
    return min(-(-rows // CHUNK_ROWS), fitting) * CHUNK_ROWS


@dataclass(frozen=True)
class StoreSpec:
    """Everything that decides what the vectors of a store are.

    Attributes:
        dataset: name of the set of media.
        encoder: name of the encoder, e.g. "vit-b16".
        fingerprint: each setting that could change a vector (weights digest, normalisation, ...).
        layers: encoder blocks that are kept, 0-based, oldest first.
        width: D, the encoder's width.
        views: V; view 0 is the deterministic one.
        positions: tokens kept of each block: 1 is [CLS] alone, else all of them, [CLS] first.
        dtype: "float16" or "float32".
        count: N, number of records.
        tasks: tasks over these media, the default one first.
        data_root: folder the media and split files lay in when the store was made. Not compared.
        media: the data set as it was named then, e.g. the path of a manifest. Not compared.
        weights: local file of the encoder's weights then, if any. Not compared.
        content_hash: whether media records have a hash of each sample's bytes. Not compared.
        shard_rows: rows per shard, a multiple of `CHUNK_ROWS`; see `fit_shard_rows`.
        version: layout version.
    """

    dataset: str
    encoder: str
    fingerprint: dict[str, str]
    layers: tuple[int, ...]
    width: int
    count: int
    views: int = 1
    positions: int = 1
    dtype: str = "float16"
    tasks: tuple[str, ...] = ()
    data_root: str = ""
    media: str = ""
    weights: str = ""
    content_hash: bool = False
    shard_rows: int = SHARD_ROWS
    version: int = STORE_VERSION

    def __post_init__(self) -> None:
        """Refuse what no store can hold.

        Raises:
            StoreError: an unknown dtype or layout version, an empty store, or impossible numbers.
        """
        if self.dtype not in DTYPES:
            raise StoreError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.version != STORE_VERSION:
            raise StoreError(
                f"the store has layout version {self.version}, this program reads {STORE_VERSION}: "
                "install the matching release of epalm or extract again"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.count == 0:
            raise StoreError("a store needs at least one record, found 0")
        for name, most in MOST.items():
            if not 1 <= getattr(self, name) <= most:
                raise StoreError(f"{name} is {getattr(self, name)}, wanted 1 to {most}")
        if len(self.layers) > MOST_LAYERS or not all(0 <= one < MOST_LAYERS for one in self.layers):
            raise StoreError(
                f"layers are {len(self.layers)} numbers, wanted at most {MOST_LAYERS}, each of 0 "
                f"to {MOST_LAYERS - 1}"
            )
        if self.shard_rows < 1 or self.shard_rows % CHUNK_ROWS:
            raise StoreError(f"shard_rows is {self.shard_rows}, wanted a multiple of {CHUNK_ROWS}")
        if self.shards > MOST_SHARDS or self.row_bytes * self.shard_rows > MOST_SHARD_BYTES:
            raise StoreError(
                f"{self.count} records of {self.row_bytes} bytes in {self.shards} shards of "
                f"{self.shard_rows} are no store of this program"
            )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, V, L, D)."""
        return self.count, *self.row_shape

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.shard_rows)

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(V, L, D): L vectors of a record, those of the oldest block first."""
        return self.views, len(self.layers) * self.positions, self.width

    @property
    def row_bytes(self) -> int:
        """Bytes of the vectors of one record."""
        return math.prod(self.row_shape) * (2 if self.dtype == "float16" else 4)

    @property
    def nbytes(self) -> int:
        """Bytes of all vectors."""
        return self.count * self.row_bytes

    def rows_of(self, shard: int) -> range:
        """The rows that shard number `shard` holds."""
        start = shard * self.shard_rows
        return range(start, min(start + self.shard_rows, self.count))

    def fields(self) -> dict[str, Any]:
        """All fields, fit for JSON."""
        return asdict(self)

    def digest(self, keys: Sequence[str]) -> str:
        """What the shards of a store have in common: SHA-256 over settings and keys."""
        digest = hashlib.sha256(json.dumps(self.comparable(), sort_keys=True).encode())
        for at in range(0, len(keys), DIGESTED_KEYS):
            texts = json.dumps(keys[at : at + DIGESTED_KEYS], separators=("\n", ":"))
            digest.update(b"\n" + texts[1:-1].encode())  # without the brackets of the list
        return digest.hexdigest()

    def check_same(self, wanted: "StoreSpec", *, where: str, mend: str) -> None:
        """Compare this store's spec with the wanted one, field by field.

        Args:
            wanted: what the command asks for.
            where: the store's path, for the message.
            mend: the command or option that mends a mismatch.

        Raises:
            CacheMismatchError: names every field that differs, with both values; of a group of
                settings that has a name (`preprocessing.name`) the name alone if that differs.
        """
        differing = _differences(self.comparable(), wanted.comparable())
        if differing:
            raise CacheMismatchError(f"{where} differs: {'; '.join(differing)}. {mend}")

    def comparable(self) -> dict[str, str]:
        """All fields that must agree, fingerprint entries flattened as `fingerprint.<name>`."""
        flat = {name: str(value) for name, value in asdict(self).items()}
        for name in ("fingerprint", "data_root", "media", "weights", "content_hash", "tasks"):
            del flat[name]
        if self.positions == 1:  # stores have been written that knew no other number
            del flat["positions"]
        return flat | {f"fingerprint.{name}": text for name, text in self.fingerprint.items()}


def _differences(found: dict[str, str], wanted: dict[str, str]) -> list[str]:
    names = found.keys() | wanted.keys()
    differing = sorted(name for name in names if found.get(name) != wanted.get(name))
    groups = tuple(name.removesuffix("name") for name in differing if name.endswith(".name"))
    return [
        f"{name} is {found.get(name, 'absent')}, wanted {wanted.get(name, 'absent')}"
        for name in differing
        if name.endswith(".name") or not name.startswith(groups)
    ]
