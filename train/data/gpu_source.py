"""All features in GPU memory: a batch costs one gather there, and no transfer."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import FeatureSource, KeyIndex, ReadPlan, batches_of
from epalm.cache.readers.joined.concatenated import ConcatenatedSource, ConcatenatedSubset
from epalm.cache.readers.joined.joined_source import JoinedSource
from epalm.cache.readers.joined.joined_stores import AnySubset, JoinedSubset
from epalm.cache.readers.memory_reader import ShardMap
from epalm.errors import StoreError

FREE_SHARE = 0.25
"""Fraction of the free GPU memory that features may take with reader "auto"."""

FORCED_SHARE = 0.9
"""Fraction of the free GPU memory that features may take with reader "gpu"."""


class GpuSource:
    """A `FeatureSource` whose features are all in the memory of one device."""

    def __init__(self, index: KeyIndex, tokens: Tensor, shards: ShardMap) -> None:
        """Serve features that are already on the device.

        Args:
            index: key -> row.
            tokens: (rows of the shards, V, L, D) on its device.
            shards: row of the store -> position in `tokens`.
        """
        self.spec = index.spec
        self._index = index
        self._flat = tokens.flatten(0, 1)
        self._shards = shards

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record could be encoded."""
        return self._index.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) the row of each record; see `FeatureSource.rows`."""
        return self._index.rows(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Tensor:
        """(B, L, D) on the device, in the order of the keys; see `FeatureSource.read`."""
        if not 0 <= view < self.spec.views:
            raise StoreError(
                f"view {view} was requested, the store has views 0 to {self.spec.views - 1}"
            )
        rows = self.rows(keys)
        return self._flat[self._places(rows, np.full(len(rows), view))]

    def take(self, rows: Rows, views: Rows, out: Tensor) -> None:
        """Fill `out` (B, L, D) on the device; see `FeatureReader.take`."""
        torch.index_select(self._flat, 0, self._places(rows, views), out=out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tensor]:
        """Batches of a plan, each in newly allocated memory."""
        for rows, views in batches_of(plan, batch_size):
            yield self._flat.index_select(0, self._places(rows, views))

    def _places(self, rows: Rows, views: Rows) -> Tensor:
        places = self._shards.array_rows(rows) * self.spec.views + views
        return torch.from_numpy(places).to(self._flat.device, non_blocking=True)


def load_resident(selection: AnySubset, device: str) -> FeatureSource[Tensor]:
    """Copy shards to a device one after the other, verifying their checksums.

    Raises:
        CorruptShardError: a shard does not match its commit record.
    """
    if isinstance(selection, JoinedSubset):
        parts = [load_resident(part, device) for part in selection.subsets]
        return JoinedSource(parts, selection.index.row_maps, join_tensors, selection.spec)
    if isinstance(selection, ConcatenatedSubset):
        return _load_parts(selection, device)
    spec = selection.store.spec
    shards = ShardMap(spec, selection.shards)
    dtype = torch.from_numpy(np.empty(0, spec.dtype)).dtype
    tokens = torch.empty((shards.rows, *spec.row_shape), dtype=dtype, device=device)
    for shard, place in shards:
        block = np.empty((place.stop - place.start, *spec.row_shape), spec.dtype)
        selection.store.read_shard(shard, block)
        tokens[place] = torch.from_numpy(block).to(device)
    return GpuSource(selection.index, tokens, shards)


def _load_parts(selection: ConcatenatedSubset, device: str) -> FeatureSource[Tensor]:
    shape, spec = selection.spec.row_shape[1:], selection.spec
    dtype = torch.from_numpy(np.empty(0, spec.dtype)).dtype

    def empty(rows: int) -> Tensor:
        return torch.empty((rows, *shape), dtype=dtype, device=device)

    parts = [load_resident(part, device) for part in selection.subsets]
    return ConcatenatedSource(parts, selection.index, spec, empty)


def join_tensors(batches: Sequence[Tensor]) -> Tensor:
    """Concatenate batches (B, L, D) of several stores to one (B, 1, W), in the wider dtype."""
    return torch.cat([batch.flatten(1) for batch in batches], dim=1).unsqueeze(1)


def gpu_budget(device: str, reader: str) -> int | None:
    """Bytes of GPU memory that features may take; None for other devices."""
    if torch.device(device).type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(torch.device(device))
    return int(free * (FORCED_SHARE if reader == "gpu" else FREE_SHARE))
