"""The spec of a feature store: every setting that decides what its features are."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from epalm.cache.token_policy import ALL, CLS, is_policy
from epalm.errors import CacheMismatchError, StoreError

STORE_VERSION = 1
"""Version of the files on disk; readers refuse any other."""

SHARD_ROWS = 8192
"""Rows per shard: 75.5 MB at 6 x 768 in float16. The size hardly affects the writing speed."""

LARGE_STORE_ROWS = 10_000_000
"""Above this number of rows, shards have four times the rows, to limit the number of files."""

SHARD_BYTES = 320_000_000
"""Maximum size of a shard; during extraction one is in memory, and two while one is written."""

CHUNK_ROWS = 64
"""Rows per inner chunk; below 64 the per-chunk overhead dominates writing."""

DTYPES = ("float16", "float32")

TOKEN = "token"
"""Fingerprint entry with the token policy, see `epalm.cache.token_policy`."""

CLASS_TOKEN, NO_CLASS_TOKEN = "class_token", "none"
"""Fingerprint entry, and its value, of encoders without a class token; others do not have it."""

MAX_VALUES = {"count": 10**10, "views": 10_000, "positions": 10**6, "width": 1 << 16}
"""Largest accepted values, far above those of any real store. A spec.json with larger ones was not
written by this program, and listing such a store would exhaust the memory."""

MAX_LAYERS = 10_000

MAX_SHARDS = 10**7

MAX_SHARD_BYTES = 1 << 36
"""Largest accepted shard (64 GiB); extraction writes at most `SHARD_BYTES`."""

MIN_SHARD_ROWS = 512
"""A small store is not divided into shards of fewer rows."""

DIGEST_KEYS = 8192
"""Keys per call of the digest; one call per key would take longer."""


@runtime_checkable
class EncodedKeys(Protocol):
    """Keys that are on the disk in the form that the digest reads, as those of a sample index."""

    def digest(self, settings: bytes) -> str:
        """SHA-256 of the settings, and of a line feed and the JSON text of each key."""


def fit_shard_rows(count: int, row_bytes: int) -> int:
    """Rows per shard for a store of `count` rows of `row_bytes` each, a multiple of `CHUNK_ROWS`.

    A store of some thousand rows gets about eight shards, so that an interrupted extraction loses
    little; a smaller one gets fewer, of `MIN_SHARD_ROWS` rows. A shard is never larger than the
    store, rounded up to whole chunks.

    Raises:
        StoreError: not even one chunk fits into `SHARD_BYTES`.
    """
    max_chunks = SHARD_BYTES // (CHUNK_ROWS * row_bytes)
    if not max_chunks:
        raise StoreError(
            f"one sample takes {row_bytes / 1e6:.1f} MB, so {CHUNK_ROWS} samples exceed the shard "
            f"limit of {SHARD_BYTES / 1e6:.0f} MB: keep fewer blocks with --source-layers, fewer "
            "--views, or fewer tokens with --tokens mean or pool:2x2"
        )
    max_rows = SHARD_ROWS if count <= LARGE_STORE_ROWS else 4 * SHARD_ROWS
    rows = min(max(-(-count // 8), MIN_SHARD_ROWS), max_rows, count)
    return min(-(-rows // CHUNK_ROWS), max_chunks) * CHUNK_ROWS


@dataclass(frozen=True)
class StoreSpec:
    """Content and settings of a store.

    Attributes:
        dataset: name of the dataset.
        encoder: name of the encoder, e.g. "vit-b16".
        fingerprint: every setting that could change the features (digest of the weights,
            normalization, ...), by name.
        layers: 0-based encoder blocks whose output is stored, in ascending order.
        width: D, the encoder's width.
        count: N, the number of samples (rows).
        views: V, the number of views per sample; view 0 is the one without augmentation.
        positions: number of tokens stored per block, T; `tokens` says which ones.
        dtype: "float16" or "float32".
        tasks: names of the tasks for this dataset, the default one first. Not compared.
        data_root: folder of the media and split files at extraction time. Not compared.
        media: the dataset as given at extraction time, e.g. the path of a manifest. Not compared.
        weights: local file of the encoder's weights at extraction time, if any. Not compared.
        content_hash: whether media tables have a hash of each sample's bytes. Not compared.
        shard_rows: rows per shard, a multiple of `CHUNK_ROWS`; see `fit_shard_rows`.
        version: version of the files on disk.
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
        """Validate the fields.

        Raises:
            StoreError: an unknown dtype or version, an empty store, or impossible numbers.
        """
        if self.dtype not in DTYPES:
            raise StoreError(f"dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.version != STORE_VERSION:
            raise StoreError(
                f"the store has version {self.version}, this release of epalm reads version "
                f"{STORE_VERSION}: install the matching release, or extract again"
            )
        self._check_numbers()

    def _check_numbers(self) -> None:
        if self.count == 0:
            raise StoreError("a store needs at least one sample, found 0")
        for name, maximum in MAX_VALUES.items():
            if not 1 <= getattr(self, name) <= maximum:
                raise StoreError(f"{name} is {getattr(self, name)}, expected 1 to {maximum}")
        in_range = all(0 <= layer < MAX_LAYERS for layer in self.layers)
        if len(self.layers) > MAX_LAYERS or not in_range:
            raise StoreError(
                f"layers has {len(self.layers)} numbers, expected at most {MAX_LAYERS}, each from "
                f"0 to {MAX_LAYERS - 1}"
            )
        if self.shard_rows < 1 or self.shard_rows % CHUNK_ROWS:
            raise StoreError(
                f"shard_rows is {self.shard_rows}, expected a multiple of {CHUNK_ROWS}"
            )
        if self.shards > MAX_SHARDS or self.row_bytes * self.shard_rows > MAX_SHARD_BYTES:
            raise StoreError(
                f"{self.count} samples of {self.row_bytes} bytes in {self.shards} shards of "
                f"{self.shard_rows} rows are beyond the limits of a store"
            )

    @property
    def weights_location(self) -> str:
        """Local file or folder of the encoder's weights; "" for the published ones."""
        folder = self.encoder.removeprefix("hf:")  # in stores of earlier versions
        return self.weights or (folder if Path(folder).is_absolute() else "")

    @property
    def tokens(self) -> str:
        """Which tokens of each block are stored, as in --tokens: "cls", "mean", "pool:2x3", ...

        An encoder of the user's own may not record it; its stores have [CLS] alone or all tokens.
        """
        recorded = self.fingerprint.get(TOKEN, "")
        return recorded if is_policy(recorded) else CLS if self.positions == 1 else ALL

    @property
    def class_token_first(self) -> bool:
        """Whether the first stored token of each block is the encoder's class token."""
        has_class_token = self.fingerprint.get(CLASS_TOKEN) != NO_CLASS_TOKEN
        return self.tokens == CLS or (self.tokens == ALL and has_class_token)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, V, L, D), the shape of the features of the whole store."""
        return self.count, *self.row_shape

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.count // self.shard_rows)

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(V, L, D), the shape of one row; L is blocks x positions, in this order.

        The tokens of the first block come first, then those of the next.
        """
        return self.views, len(self.layers) * self.positions, self.width

    @property
    def row_bytes(self) -> int:
        """Size of one row in bytes."""
        return math.prod(self.row_shape) * (2 if self.dtype == "float16" else 4)

    @property
    def nbytes(self) -> int:
        """Size of all features in bytes."""
        return self.count * self.row_bytes

    def grown_to(self, count: int) -> "StoreSpec":
        """The spec of the same store with another number of rows, in shards of the same size."""
        return self if count == self.count else replace(self, count=count)

    def in_shards_of(self, rows: int) -> "StoreSpec":
        """The same spec with another number of rows per shard."""
        return replace(self, shard_rows=rows)

    def rows_of(self, shard: int) -> range:
        """The rows of the shard with number `shard`."""
        start = shard * self.shard_rows
        return range(start, min(start + self.shard_rows, self.count))

    def digest(self, keys: Sequence[str]) -> str:
        """SHA-256 over settings and keys, which every shard of the store must agree on."""
        settings = json.dumps(self.comparable(), sort_keys=True).encode()
        if isinstance(keys, EncodedKeys):
            return keys.digest(settings)
        digest = hashlib.sha256(settings)
        for first in range(0, len(keys), DIGEST_KEYS):
            text = json.dumps(keys[first : first + DIGEST_KEYS], separators=("\n", ":"))
            digest.update(b"\n" + text[1:-1].encode())  # without the brackets of the list
        return digest.hexdigest()

    def check_same(self, wanted: "StoreSpec", *, where: str, hint: str) -> None:
        """Compare this store's spec with another one, field by field.

        Args:
            wanted: the spec that the command needs.
            where: path of this store, for the error message.
            hint: how to fix a mismatch, for the error message.

        Raises:
            CacheMismatchError: names every field that differs, with both values. Where a named
                group of settings differs (`preprocessing.name`), only its name is listed.
        """
        differing = _differences(self.comparable(), wanted.comparable())
        if differing:
            raise CacheMismatchError(f"{where} differs: {'; '.join(differing)}. {hint}")

    def comparable(self) -> dict[str, str]:
        """The fields that must agree; fingerprint entries are named `fingerprint.<name>`."""
        flat = {name: str(value) for name, value in asdict(self).items()}
        for name in ("fingerprint", "data_root", "media", "weights", "content_hash", "tasks"):
            del flat[name]
        if self.positions == 1:  # stores of earlier versions do not have the field
            del flat["positions"]
        return flat | {f"fingerprint.{name}": text for name, text in self.fingerprint.items()}


def _differences(present: dict[str, str], wanted: dict[str, str]) -> list[str]:
    names = present.keys() | wanted.keys()
    differing = sorted(name for name in names if present.get(name) != wanted.get(name))
    groups = tuple(name.removesuffix("name") for name in differing if name.endswith(".name"))
    return [
        f"{name} is {present.get(name, 'absent')}, expected {wanted.get(name, 'absent')}"
        for name in differing
        if name.endswith(".name") or not name.startswith(groups)
    ]
