"""The reading side of a store: rows by key, whatever holds their vectors."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Tokens
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.spec import StoreSpec
from epalm.console import counted
from epalm.errors import StoreError, UnknownKeyError

Block = TypeVar("Block")
"""What vectors come in: a numpy array from here, a tensor from `epalm.train.data.gpu_source`."""


@dataclass(frozen=True)
class ReadPlan:
    """Vectors to serve, in order.

    Attributes:
        rows: (M,) rows of the store.
        views: (M,) the view of each.
        pool_ends: (P,) see `epalm.cache.readers.epoch_order.EpochOrder`; only reading by pools
            heeds it.
    """

    rows: Rows
    views: Rows
    pool_ends: Rows


class FeatureReader(Protocol):
    """What holds the vectors, addressed by row: an array, files, ..."""

    def take(self, rows: Rows, views: Rows, out: Tokens) -> None:
        """Fill `out` (B, L, D), C-contiguous in the store's dtype, from (B,) rows and views.

        Rows come from `KeyIndex.rows`: they are not checked again.

        Raises:
            CorruptShardError: a shard does not match its commit record.
        """

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tokens]:
        """Batches of a plan, (batch_size, L, D) each, the last one smaller.

        A batch lies in a buffer that is used again: it holds until the next one is drawn.

        Raises:
            CorruptShardError: a shard does not match its commit record.
            StoreError: the plan needs more memory than this reader may use.
        """


class NumpySource(Protocol[Block]):
    """A store as training and evaluation see it."""

    spec: StoreSpec

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record could be encoded.

        Raises:
            UnknownKeyError: a key that the store does not hold.
        """

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) the row that answers for each record; look them up once, then `stream` or `take`.

        Raises:
            UnknownKeyError: a key that the store does not hold.
            StoreError: a record that could not be encoded, or that the reader was not opened for.
        """

    def read(self, keys: Sequence[str], view: int = 0) -> Block:
        """(B, L, D) in the order asked, in the store's dtype, in memory of its own.

        Raises:
            UnknownKeyError: a key that the store does not hold.
            StoreError: as `rows`, or a view that the store does not have.
        """

    def take(self, rows: Rows, views: Rows, out: Block) -> None:
        """See `FeatureReader.take`."""

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Block]:
        """See `FeatureReader.stream`."""


FeatureSource: TypeAlias = NumpySource[Tokens]
"""A source of numpy arrays, which all readers of this package are."""


class KeyIndex:
    """Which record lies in which row, and which rows can be read."""

    def __init__(
        self,
        spec: StoreSpec,
        keys: Sequence[str],
        failed: Collection[str],
        *,
        location: str = "the store",
        task: str = "",
    ) -> None:
        """Index a store.

        Args:
            spec: of the store.
            keys: N keys, one per row.
            failed: keys of the records that could not be encoded.
            location: of the store, for messages.
            task: whose media will be asked for, for messages; empty if unknown.
        """
        self.spec = spec
        self._location, self._task = location, task
        self._row = {key: row for row, key in enumerate(keys)}
        self._valid = np.ones(len(keys), np.bool_)
        self._valid[[self._row[key] for key in failed]] = False
        self._served = np.ones(len(keys), np.bool_)

    def limit_to(self, keys: Sequence[str]) -> None:
        """Refuse from now on all but these records."""
        served = self.find(keys)
        self._served[:] = False
        self._served[served] = True

    def find(self, keys: Sequence[str]) -> Rows:
        """(B,) rows, whether they can be read or not.

        Raises:
            UnknownKeyError: a key that the store does not hold.
        """
        try:
            return np.fromiter((self._row[key] for key in keys), np.intp, len(keys))
        except KeyError:
            raise UnknownKeyError(self._lack_of(keys)) from None

    def _lack_of(self, keys: Sequence[str]) -> str:
        """What the store lacks of these records, and what mends it."""
        asked = list(dict.fromkeys(keys))
        lacking = [key for key in asked if key not in self._row]
        store = f"{self._location} ({self.spec.dataset}, {counted(len(self._row), 'record')})"
        asks = f"that task {self._task} asks about" if self._task else "asked for"
        media = f"{len(asked)} media {asks}"
        whole = f"extract all of {_whole_set(self.spec)}, without --limit"
        if len(lacking) < len(asked):
            return (
                f"{store} lacks {len(lacking)} of the {media}, the first is {lacking[0]!r}: {whole}"
            )
        mends = ["name the store of those media with --features"]
        if self.spec.tasks and self._task not in self.spec.tasks:
            mends.append(f"ask about its own media with --task {self.spec.tasks[0]}")
        if self._task in ("", *self.spec.tasks):
            mends.append(f"if it was cut short, {whole}")
        return (
            f"{store} holds none of the {media}, the first is {asked[0]!r}, its own first "
            f"{next(iter(self._row))!r}: {', or '.join(mends)}"
        )

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each record could be encoded."""
        return self._valid[self.find(keys)]

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) rows that can be read; see `NumpySource.rows`."""
        rows = self.find(keys)
        for usable, why in (
            (self._valid, "could not be encoded; leave it out (see `valid`)"),
            (self._served, "is none of the records that this reader was opened for"),
        ):
            if not usable[rows].all():
                raise StoreError(f"{keys[int(np.argmin(usable[rows]))]} {why}")
        return rows


def _whole_set(spec: StoreSpec) -> str:
    """The data set as `epalm-extract --dataset` takes it; of a manifest's file, the folder."""
    named = spec.media or spec.dataset
    return str(PurePath(named).parent) if named.endswith((".jsonl", ".csv")) else named


class Reader:
    """A store's index together with what holds their vectors."""

    def __init__(
        self, index: KeyIndex, vectors: FeatureReader, *, views: int | None = None
    ) -> None:
        """Join the two.

        Args:
            index: key -> row.
            vectors: row -> vector.
            views: how many of the store's views, from 0 on, `vectors` holds; None for all.
        """
        self.spec = index.spec
        self.index = index
        self.vectors = vectors
        self._views = self.spec.views if views is None else views

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """See `NumpySource.valid`."""
        return self.index.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """See `NumpySource.rows`."""
        return self.index.rows(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Tokens:
        """See `NumpySource.read`."""
        if not 0 <= view < self._views:
            raise StoreError(f"view {view} was asked, the reader has views 0..{self._views - 1}")
        rows = self.rows(keys)
        out = np.empty((len(rows), *self.spec.row_shape[1:]), self.spec.dtype)
        self.vectors.take(rows, np.full(len(rows), view), out)
        return out

    def take(self, rows: Rows, views: Rows, out: Tokens) -> None:
        """See `FeatureReader.take`."""
        self.vectors.take(rows, views, out)

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Tokens]:
        """See `FeatureReader.stream`."""
        return self.vectors.stream(plan, batch_size)


def batches_of(plan: ReadPlan, batch_size: int) -> Iterator[tuple[Rows, Rows]]:
    """(rows, views) of each batch."""
    for first in range(0, len(plan.rows), batch_size):
        part = slice(first, first + batch_size)
        yield plan.rows[part], plan.views[part]


def buffers(spec: StoreSpec, *, batch_size: int, count: int) -> list[Tokens]:
    """Memory for `count` batches, (batch_size, L, D) each, to be used again and again."""
    shape = (batch_size, *spec.row_shape[1:])
    return [np.empty(shape, spec.dtype) for _ in range(count)]
