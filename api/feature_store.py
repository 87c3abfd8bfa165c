"""A feature store as a mapping from keys to arrays: `epalm.open_store`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.readers.reader_choice import AUTO
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import UnknownKeyError

if TYPE_CHECKING:
    from torch import Tensor


class FeatureStore:
    """The features of a finished store by key.

    Attributes:
        spec: every setting of the store.
        keys: keys of all samples, those that could not be encoded included.
        failed: key -> reason of each sample that could not be encoded.
    """

    def __init__(self, store: Store, reader: str = AUTO) -> None:
        """See `open_store`."""
        self.location = store.location
        self.spec: StoreSpec = store.spec
        self.keys: Sequence[str] = store.keys
        self.failed = dict(store.failed_samples())
        self._source = open_reader(store, reader=reader)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.spec.shape))
        return f"FeatureStore({self.location!r}, {self.spec.encoder}, {shape} {self.spec.dtype})"

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._source.index.has([key])[0])

    @overload
    def __getitem__(self, keys: str) -> Features: ...
    @overload
    def __getitem__(self, keys: Sequence[str]) -> Features: ...
    def __getitem__(self, keys: str | Sequence[str]) -> Features:
        """Features of view 0 in the store's dtype: (L, D) of a key, (N, L, D) of a list of keys.

        Raises:
            UnknownKeyError: a key is not in the store.
            StoreError: a sample could not be encoded.
        """
        return self.read([keys])[0] if isinstance(keys, str) else self.read(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Features:
        """Features (N, L, D) of a view, in the order of the keys; see `__getitem__` for errors."""
        if wrong := [key for key in keys if not isinstance(key, str)]:
            raise UnknownKeyError(f"found the key {wrong[0]!r}, expected the text of a key")
        return self._source.read(list(keys), view=view)

    def to_torch(self, keys: str | Sequence[str], view: int = 0) -> "Tensor":
        """The features as a tensor on the CPU, in memory of its own; see `__getitem__`."""
        import torch

        features = self.read([keys] if isinstance(keys, str) else keys, view)
        tensor = torch.from_numpy(features)
        return tensor[0] if isinstance(keys, str) else tensor


def open_store(location: str | Path, *, reader: str = AUTO) -> FeatureStore:
    """Open a finished store to read features by key.

    Examples:
        >>> import epalm
        >>> store = epalm.open_store("cache/image.zarr")
        >>> store["media/test-00000.png"].shape
        (6, 96)
        >>> store.to_torch(store.keys[:2]).shape
        torch.Size([2, 6, 96])

    Args:
        location: path or URL.
        reader: "ram", "mapped" or "pread"; "auto" takes RAM if the features fit.

    Raises:
        StoreError: there is no store, shards are missing, or it is damaged.
    """
    return FeatureStore(Store.open(location), reader)
