"""A feature store as a map-style PyTorch dataset: `epalm.FeatureDataset`."""

import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from epalm.cache.readers.feature_source import StoreReader
from epalm.cache.readers.open_reader import index_store, open_reader
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import StoreError

if TYPE_CHECKING:
    from epalm.cache.readers.epoch_order import Rows


class FeatureDataset(Dataset[tuple[str, Tensor]]):
    """The samples of a finished store: (key, features of shape (L, D)), for `DataLoader`.

    Samples that could not be encoded are left out. The store is opened in each worker process when
    it reads its first sample, so the dataset can be pickled and used with any start method. A batch
    is read at once, and each shard is compared with its checksum before its first row is served.

    Examples:
        >>> import epalm
        >>> from torch.utils.data import DataLoader
        >>> dataset = epalm.FeatureDataset("cache/image.zarr")
        >>> keys, features = next(iter(DataLoader(dataset, batch_size=4, shuffle=True)))
        >>> features.shape
        torch.Size([4, 6, 96])

    Attributes:
        spec: every setting of the store.
        view: the view that is read.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        keys: Sequence[str] | None = None,
        view: int = 0,
        reader: str = "pread",
    ) -> None:
        """Open the store to find its samples.

        Args:
            location: path or URL of the store.
            keys: keys of the samples, in their order; None for all that could be encoded.
            view: number of the view; 0 is the one without augmentation.
            reader: "pread" reads rows from the disk; "ram" loads the store into the memory of each
                process, "mapped" maps its files.

        Raises:
            StoreError: there is no store, shards are missing, it has no such view, or a sample of
                `keys` could not be encoded.
            UnknownKeyError: a key is not in the store.
        """
        store = Store.open(location)
        self.spec: StoreSpec = store.spec
        self.view = view
        if not 0 <= view < self.spec.views:
            raise StoreError(
                f"{location} has {self.spec.views} views, numbered from 0: there is no view {view}"
            )
        self._location, self._reader = str(location), reader
        self._rows = _rows(store, keys)
        self._opened: tuple[int, Store, StoreReader] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex) -> tuple[str, Tensor]:
        """(key, features (L, D) in the store's dtype); see `__getitems__` for errors."""
        return self.__getitems__([operator.index(index)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[str, Tensor]]:
        """Several samples, read at once; `DataLoader` calls it with the indices of a batch.

        Raises:
            IndexError: an index is out of range.
            CorruptShardError: a shard does not match its commit record.
        """
        count = len(self)
        if wrong := [index for index in indices if not -count <= index < count]:
            raise IndexError(f"index {wrong[0]} is out of range for {count} samples")
        rows = np.fromiter((self._rows[index] for index in indices), np.intp, len(indices))
        store, source = self._open()
        features = np.empty((len(rows), *self.spec.row_shape[1:]), self.spec.dtype)
        source.take(rows, np.full_like(rows, self.view), features)
        keys = [store.keys[row] for row in rows.tolist()]
        return list(zip(keys, torch.from_numpy(features), strict=True))

    def key(self, index: SupportsIndex) -> str:
        """The key of a sample, without reading its features."""
        return self._open()[0].keys[self._rows[operator.index(index)]]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the opened store, which has threads and file descriptors."""
        return {**self.__dict__, "_opened": None}

    def _open(self) -> tuple[Store, StoreReader]:
        """The store and its reader in this process; a forked worker opens its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            store = Store.open(self._location)
            store.spec.check_same(
                self.spec, where=self._location, hint="It was replaced: make the dataset again."
            )
            self._opened = (os.getpid(), store, open_reader(store, reader=self._reader))
        return self._opened[1:]


def _rows(store: Store, keys: Sequence[str] | None) -> "Rows | range":
    """The row of each sample: a range if these are all rows."""
    index = index_store(store)
    if keys is not None:
        return index.rows(keys)
    valid = index.valid(store.keys)
    return range(len(valid)) if valid.all() else np.flatnonzero(valid)
