"""Readers: rows by key, from memory."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from epalm.cache.spec import StoreSpec
from epalm.cache.store import FeatureSource, Tokens
from epalm.cache.zarr_store import ZarrStore
from epalm.errors import StoreError, UnfinishedStoreError, UnknownKeyError


class MemoryReader:
    """A store whose vectors all lie in one array; also the double that tests use without a disk."""

    def __init__(self, spec: StoreSpec, keys: Sequence[str], tokens: Tokens) -> None:
        """Take the vectors as they are.

        Args:
            spec: what they are.
            keys: N keys.
            tokens: (N, V, L, D), the store's dtype; rows of NaN are failed records.
        """
        if tokens.shape != spec.shape or len(keys) != spec.count:
            raise StoreError(f"{len(keys)} keys and {tokens.shape} tokens do not fit {spec.shape}")
        self.spec = spec
        self._tokens = tokens
        self._rows = {key: row for row, key in enumerate(keys)}
        self._valid = ~np.isnan(tokens[:, 0, 0, 0])

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a finished Zarr store, checking every byte; see `open_store` for what is raised."""
        store = ZarrStore.open(path)
        missing = store.missing()
        if missing:
            raise UnfinishedStoreError(
                f"{path} misses {len(missing)} of {store.spec.shards} shards: "
                "run the same `epalm-extract` command again to complete it"
            )
        tokens = np.empty(store.spec.shape, dtype=store.spec.dtype)
        for shard in range(store.spec.shards):
            rows = store.spec.rows_of(shard)
            store.read_shard(shard, tokens[rows.start : rows.stop])
        return cls(store.spec, store.keys, tokens)

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record could be encoded."""
        return self._valid[self._find(keys)]

    def read(self, keys: Sequence[str], view: int = 0) -> Tokens:
        """(B, L, D) in the order asked; see `FeatureSource.read`."""
        if not 0 <= view < self.spec.views:
            raise StoreError(f"view {view} was asked, the store has views 0..{self.spec.views - 1}")
        rows = self._find(keys)
        if not self._valid[rows].all():
            failed = keys[int(np.argmin(self._valid[rows]))]
            raise StoreError(f"{failed} could not be encoded; leave it out (see `valid`)")
        tokens: Tokens = self._tokens[rows, view]
        return tokens

    def _find(self, keys: Sequence[str]) -> NDArray[np.intp]:
        try:
            return np.fromiter((self._rows[key] for key in keys), np.intp, len(keys))
        except KeyError as error:
            raise UnknownKeyError(
                f"the store of {self.spec.dataset} has no record {error.args[0]!r}: "
                "extract the data set this split belongs to"
            ) from None


class BlindSource:
    """The blind control: each record answers with the vectors of another one of the same group.

    What a model still gets right this way it owes to the text alone.
    """

    def __init__(self, source: FeatureSource, groups: Iterable[Sequence[str]], seed: int) -> None:
        """Permute within each group.

        Args:
            source: the true store.
            groups: keys that may be exchanged, e.g. the media of one split. A key of several
                groups is permuted within the first; a group of one stays as it is.
            seed: of the permutation.
        """
        self.spec = source.spec
        self._source = source
        self._other: dict[str, str] = {}
        for group in groups:
            fresh = sorted(set(group) - self._other.keys())
            usable = [key for key, ok in zip(fresh, source.valid(fresh), strict=True) if ok]
            order = np.random.default_rng(seed).permutation(len(usable))
            shuffled = [usable[place] for place in order]
            self._other |= dict(zip(shuffled, shuffled[1:] + shuffled[:1], strict=True))

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record itself could be encoded."""
        return self._source.valid(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Tokens:
        """(B, L, D): the vectors of each key's partner."""
        try:
            partners = [self._other[key] for key in keys]
        except KeyError as error:
            raise UnknownKeyError(
                f"{error.args[0]!r} is in no group of the blind control"
            ) from None
        return self._source.read(partners, view)
