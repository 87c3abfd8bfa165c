"""The reading side of a store: features by key or by row, independent of where they are kept."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.keys.packed_table import PackedTable
from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.spec import StoreSpec
from epalm.console import counted
from epalm.errors import StoreError, UnknownKeyError

Batch = TypeVar("Batch")
"""Array type of a batch: NumPy here, a tensor in `epalm.train.data.gpu_source`."""


@dataclass(frozen=True)
class ReadPlan:
    """Features to serve, in order.

    Attributes:
        rows: (M,) rows of the store.
        views: (M,) the view to read of each row.
        pool_ends: (P,) ends of the pools, see `epalm.cache.readers.epoch_order.EpochOrder`; only
            the block-shuffle reader uses them.
    """

    rows: Rows
    views: Rows
    pool_ends: Rows


class FeatureReader(Protocol):
    """Reads features by row, from memory or from files."""

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """Fill `out` (B, L, D), C-contiguous in the store's dtype, from (B,) rows and views.

        Rows must come from `KeyIndex.rows`; they are not checked again.

        Raises:
            CorruptShardError: a shard does not match its commit record.
        """

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """Batches of a plan, (batch_size, L, D) each; the last one may be smaller.

        The buffer of a batch is reused: it is valid until the next batch is requested.

        Raises:
            CorruptShardError: a shard does not match its commit record.
            StoreError: the plan needs more memory than this reader may use.
        """


class FeatureSource(Protocol[Batch]):
    """The features of a store, as training and evaluation read them."""

    spec: StoreSpec

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample could be encoded.

        Raises:
            UnknownKeyError: a key is not in the store.
        """

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) the row of each sample; look rows up once, then call `stream` or `take`.

        Raises:
            UnknownKeyError: a key is not in the store.
            StoreError: a sample could not be encoded, or the reader was opened without it.
        """

    def read(self, keys: Sequence[str], view: int = 0) -> Batch:
        """(B, L, D) in the order of the keys, in the store's dtype, in newly allocated memory.

        Raises:
            UnknownKeyError: a key is not in the store.
            StoreError: `rows` refuses the keys, or the store does not have this view.
        """

    def take(self, rows: Rows, views: Rows, out: Batch) -> None:
        """See `FeatureReader.take`."""

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Batch]:
        """See `FeatureReader.stream`."""


NumpySource: TypeAlias = FeatureSource[Features]
"""A source of NumPy arrays, as all readers in this package are."""


class KeyIndex:
    """The row of each key, and which rows can be read."""

    def __init__(
        self,
        spec: StoreSpec,
        keys: Sequence[str] | PackedTable,
        failed: Collection[str],
        *,
        location: str = "the store",
        task: str = "",
        later: Collection[str] = (),
    ) -> None:
        """Index a store.

        Args:
            spec: spec of the store.
            keys: the key of each of the N rows, or a table of them.
            failed: keys of the samples that could not be encoded.
            location: path or URL of the store, for error messages.
            task: name of the task that needs the features, for error messages; "" if unknown.
            later: keys of samples that are in a later generation of the store.
        """
        self.spec = spec
        self.later = frozenset(later)
        self._location, self._task = location, task
        table = keys if isinstance(keys, PackedTable) else PackedTable(PackedKeys.packed(keys))
        self._table = table
        self.keys: Sequence[str] = table.keys
        self._failed = _RowSet(len(table.keys), table.find([*failed]))
        self._included: _RowSet | None = None

    def limit_to(self, keys: Sequence[str]) -> Rows:
        """From now on, refuse all samples but these, whose (B,) rows are returned.

        Raises:
            UnknownKeyError: a key is not in the store.
        """
        rows = self.find(keys)
        self._included = _RowSet(len(self.keys), rows)
        return rows

    def locate(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """(B,) the row of each key; -1 for a sample that is not in the store."""
        return self._table.find(keys)

    def find(self, keys: Sequence[str]) -> Rows:
        """(B,) the row of each key, whether it can be read or not.

        Raises:
            UnknownKeyError: a key is not in the store.
        """
        rows = self.locate(keys)
        if (rows < 0).any():
            raise UnknownKeyError(self._missing_keys_message(keys))
        return rows.astype(np.intp, copy=False)

    def has(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample is in the store."""
        return self.locate(keys) >= 0

    def _missing_keys_message(self, keys: Sequence[str]) -> str:
        """Which of these samples the store does not have, and how to fix that."""
        needed = list(dict.fromkeys(keys))
        missing = [key for key, there in zip(needed, self.has(needed), strict=True) if not there]
        store = f"{self._location} ({self.spec.dataset}, {counted(len(self.keys), 'sample')})"
        samples = f"{counted(len(needed), 'sample')} " + (
            f"of task {self._task}" if self._task else "requested"
        )
        added = sum(key in self.later for key in missing)
        if added:
            return (
                f"{store} lacks {len(missing)} of the {samples}, {added} of which are being added: "
                "run the same `epalm-extract` command again to finish that"
            )
        extract_all = f"extract all of {_whole_dataset(self.spec)}, without --limit"
        if len(missing) < len(needed):
            return (
                f"{store} lacks {len(missing)} of the {samples}, the first is {missing[0]!r}: "
                f"{extract_all}"
            )
        fixes = ["choose the store of that dataset with --features"]
        if self.spec.tasks and self._task not in self.spec.tasks:
            fixes.append(f"choose a task for the store's dataset with --task {self.spec.tasks[0]}")
        if self._task in ("", *self.spec.tasks):
            fixes.append(f"if it was extracted with --limit, {extract_all}")
        return (
            f"{store} has no features for the {samples}; the first needed is {needed[0]!r}, the "
            f"store's first is {self.keys[0]!r}: {', or '.join(fixes)}"
        )

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample could be encoded."""
        return ~self._failed.has(self.find(keys))

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) rows that can be read; see `FeatureSource.rows`."""
        rows = self.find(keys)
        if (failed := self._failed.has(rows)).any():
            key = keys[int(np.argmax(failed))]
            raise StoreError(f"{key} could not be encoded; leave it out (see `valid`)")
        if self._included is not None and not (included := self._included.has(rows)).all():
            key = keys[int(np.argmin(included))]
            raise StoreError(f"{key} is not one of the samples that this reader was opened for")
        return rows


class _RowSet:
    """A set of rows, with one bit per row of the store."""

    def __init__(self, count: int, rows: Rows) -> None:
        mask = np.zeros(count, np.bool_)
        mask[rows] = True
        self._bits = np.packbits(mask, bitorder="little")

    def has(self, rows: Rows) -> NDArray[np.bool_]:
        """(B,) whether each row is in the set."""
        bits = self._bits[rows >> 3] >> (rows & 7).astype(np.uint8)
        inside: NDArray[np.bool_] = (bits & 1) == 1
        return inside


def _whole_dataset(spec: StoreSpec) -> str:
    """The dataset as an argument of `epalm-extract --dataset`; the folder of a manifest file."""
    dataset = spec.media or spec.dataset
    return str(PurePath(dataset).parent) if dataset.endswith((".jsonl", ".csv")) else dataset


class StoreReader:
    """A `FeatureSource` made of a key index and a reader by row."""

    def __init__(
        self, index: KeyIndex, features: FeatureReader, *, views: int | None = None
    ) -> None:
        """Combine index and reader.

        Args:
            index: key -> row.
            features: row -> features.
            views: number of the store's views, from view 0 on, that `features` has; None for all.
        """
        self.spec = index.spec
        self.index = index
        self.features = features
        self._views = self.spec.views if views is None else views

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """See `FeatureSource.valid`."""
        return self.index.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """See `FeatureSource.rows`."""
        return self.index.rows(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Features:
        """See `FeatureSource.read`."""
        if not 0 <= view < self._views:
            raise StoreError(
                f"view {view} was requested, the reader has views 0 to {self._views - 1}"
            )
        rows = self.rows(keys)
        out = np.empty((len(rows), *self.spec.row_shape[1:]), self.spec.dtype)
        self.features.take(rows, np.full(len(rows), view), out)
        return out

    def take(self, rows: Rows, views: Rows, out: Features) -> None:
        """See `FeatureReader.take`."""
        self.features.take(rows, views, out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Features]:
        """See `FeatureReader.stream`."""
        return self.features.stream(plan, batch_size)


def batches_of(plan: ReadPlan, batch_size: int) -> Iterator[tuple[Rows, Rows]]:
    """(rows, views) of each batch."""
    for first in range(0, len(plan.rows), batch_size):
        part = slice(first, first + batch_size)
        yield plan.rows[part], plan.views[part]


def batch_buffers(spec: StoreSpec, *, batch_size: int, count: int) -> list[Features]:
    """Uninitialized memory for `count` batches, (batch_size, L, D) each."""
    shape = (batch_size, *spec.row_shape[1:])
    return [np.empty(shape, spec.dtype) for _ in range(count)]
