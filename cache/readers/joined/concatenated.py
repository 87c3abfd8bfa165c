"""Several stores of different samples, read as parts of one dataset.

The rows of the parts are numbered one after the other. Each part begins at a multiple of
`BLOCK_ROWS`, so that a block of the block shuffle is in one part.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.store_format import Features
from epalm.cache.readers.epoch_order import BLOCK_ROWS, Rows
from epalm.cache.readers.feature_source import Batch, FeatureSource, KeyIndex, ReadPlan
from epalm.cache.readers.joined.joined_source import located_rows
from epalm.cache.readers.open_reader import StoreSubset, select_subset, shuffle_window
from epalm.cache.readers.reader_choice import ReadRequirements
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import CacheMismatchError, UnknownKeyError

OWN_FIELDS = ("count", "shard_rows", "dataset")
"""Compared fields of a store in which parts of one dataset may differ."""

EXAMPLES = 3
"""Number of keys in a message."""


def concatenated_spec(stores: Sequence[Store]) -> StoreSpec:
    """The spec of the first part with the number of rows of all.

    Raises:
        CacheMismatchError: a part has features of other settings.
    """
    first, *others = (store.spec for store in stores)
    for store, spec in zip(stores[1:], others, strict=True):
        own = {name: getattr(first, name) for name in OWN_FIELDS}
        replace(spec, **own).check_same(
            first,
            where=store.location,
            hint="Parts of one dataset must have the same encoder and settings: extract it again "
            f"with those of {stores[0].location}, or leave it out.",
        )
    return replace(first, count=sum(store.spec.count for store in stores))


class ConcatenatedIndex:
    """The key indices of the parts."""

    def __init__(self, parts: Sequence[KeyIndex], location: str) -> None:
        """Concatenate parts.

        Args:
            parts: key index of each part, at least two.
            location: paths or URLs of the parts, for messages.

        Raises:
            CacheMismatchError: two parts have the same sample.
        """
        self.parts = tuple(parts)
        self.later = frozenset().union(*(part.later for part in parts))
        self._location = location
        blocks = [-(-len(part.keys) // BLOCK_ROWS) for part in parts]
        self.starts: Rows = np.cumsum([0, *blocks[:-1]], dtype=np.intp) * BLOCK_ROWS
        self._check_disjoint()

    def has(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample is in one of the parts."""
        return self._parts_of(keys) >= 0

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """(B,) whether each sample could be encoded.

        Raises:
            UnknownKeyError: a key is in no part.
        """
        valid = np.zeros(len(keys), np.bool_)
        for part, places, own in self.split(keys):
            valid[places] = self.parts[part].valid(own)
        return valid

    def rows(self, keys: Sequence[str]) -> Rows:
        """(B,) rows that can be read; see `FeatureSource.rows` for the errors."""
        rows = np.zeros(len(keys), np.intp)
        for part, places, own in self.split(keys):
            rows[places] = self.starts[part] + self.parts[part].rows(own)
        return rows

    def split(self, keys: Sequence[str]) -> Iterator[tuple[int, Rows, list[str]]]:
        """Each part with the positions in `keys`, and the keys, of the samples that it has.

        Raises:
            UnknownKeyError: a key is in no part.
        """
        part_of = self._parts_of(keys)
        if (part_of < 0).any():
            unknown = np.flatnonzero(part_of < 0).tolist()
            missing = list(dict.fromkeys(keys[place] for place in unknown))
            raise UnknownKeyError(
                f"{self._location} lack {counted(len(missing), 'sample')} of the "
                f"{len(set(keys))} that are needed, the first is {missing[0]!r}: add the store "
                "that has them with --features"
            )
        for part in range(len(self.parts)):
            places = np.flatnonzero(part_of == part)
            yield part, places, [keys[place] for place in places.tolist()]

    def parts_of_rows(self, rows: Rows) -> Rows:
        """(B,) the part of each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def _parts_of(self, keys: Sequence[str]) -> Rows:
        part_of = np.full(len(keys), -1, np.intp)
        for number, part in enumerate(self.parts):
            part_of[part.has(keys)] = number
        return part_of

    def _check_disjoint(self) -> None:
        for number, part in enumerate(self.parts):
            for other in self.parts[:number]:
                start = 0
                for rows in located_rows(part, other):
                    if shared := np.flatnonzero(rows >= 0)[:EXAMPLES].tolist():
                        names = ", ".join(repr(part.keys[start + row]) for row in shared)
                        raise CacheMismatchError(
                            f"{self._location}: parts {self.parts.index(other) + 1} and "
                            f"{number + 1} both have {names}: parts of one dataset have different "
                            "samples; leave one out, or leave out --concatenate to join stores of "
                            "different encoders by key"
                        )
                    start += len(rows)


@dataclass(frozen=True)
class ConcatenatedSubset:
    """The shards of each part that a command reads.

    Attributes:
        subsets: subset of each part.
        index: keys of the parts.
        spec: spec of all parts together.
    """

    subsets: tuple[StoreSubset, ...]
    index: ConcatenatedIndex
    spec: StoreSpec

    def requirements(self, batch_size: int) -> ReadRequirements:
        """Sizes of all subsets together, from which a reader is chosen."""
        needs = [subset.requirements(batch_size) for subset in self.subsets]
        return replace(
            needs[0],
            nbytes=sum(need.nbytes for need in needs),
            blocks=sum(need.blocks for need in needs),
            **shuffle_window(
                self.subsets,
                row_bytes=self.spec.row_bytes,
                shards=sum(len(subset.shards) for subset in self.subsets),
            ),
        )

    def open(self, reader: str, budget: int) -> "ConcatenatedSource[Features]":
        """Open a reader of each part; see `StoreSubset.open`.

        The pools of all parts together are those of one store.
        """
        shape, dtype = self.spec.row_shape[1:], self.spec.dtype

        def empty(rows: int) -> Features:
            return np.empty((rows, *shape), dtype)

        sources = [subset.open(reader, budget) for subset in self.subsets]
        return ConcatenatedSource(sources, self.index, self.spec, empty)


def select_parts(
    stores: Sequence[Store],
    index: ConcatenatedIndex,
    *,
    keys: Sequence[str],
    views: int,
    spec: StoreSpec,
) -> ConcatenatedSubset:
    """Select the shards of the parts with the needed samples; see `select_subset`."""
    subsets = [
        select_subset(stores[part], index.parts[part], keys=own, views=views)
        for part, _, own in index.split(keys)
    ]
    return ConcatenatedSubset(tuple(subsets), index, spec)


class ConcatenatedSource(Generic[Batch]):
    """A `FeatureSource` of all parts."""

    def __init__(
        self,
        sources: Sequence[FeatureSource[Batch]],
        index: ConcatenatedIndex,
        spec: StoreSpec,
        empty: Callable[[int], Batch],
    ) -> None:
        """Concatenate sources.

        Args:
            sources: a source of each part.
            index: keys of the parts.
            spec: spec of all parts together.
            empty: makes a batch (B, L, D) of B rows.
        """
        self.spec = spec
        self._sources = tuple(sources)
        self._index = index
        self._empty = empty

    def valid(self, keys: Sequence[str]) -> NDArray[np.bool_]:
        """See `ConcatenatedIndex.valid`."""
        return self._index.valid(keys)

    def rows(self, keys: Sequence[str]) -> Rows:
        """See `ConcatenatedIndex.rows`."""
        return self._index.rows(keys)

    def read(self, keys: Sequence[str], view: int = 0) -> Batch:
        """(B, L, D) in the order of the keys; see `FeatureSource.read`."""
        out: Any = self._empty(len(keys))  # arrays and tensors are assigned to in the same way
        for part, places, own in self._index.split(keys):
            if own:
                out[places] = self._sources[part].read(own, view)
        batch: Batch = out
        return batch

    def take(self, rows: Rows, views: Rows, out: Batch) -> None:
        """Fill `out` (B, L, D) from (B,) rows and views; see `FeatureReader.take`."""
        plan = ReadPlan(rows, views, np.array([len(rows)], np.intp))
        target: Any = out
        for batch in self.stream(plan, len(rows)):
            target[:] = batch

    def stream(self, plan: ReadPlan, batch_size: int) -> Iterator[Batch]:
        """Batches of a plan; the part of each row streams its own rows in the same order."""
        part_of = self._index.parts_of_rows(plan.rows)
        streams = [
            _PartStream(source.stream(self._own_plan(plan, part_of, part), batch_size))
            for part, source in enumerate(self._sources)
        ]
        for first in range(0, len(plan.rows), batch_size):
            parts = part_of[first : first + batch_size]
            out = self._empty(len(parts))
            for part, stream in enumerate(streams):
                stream.fill(out, np.flatnonzero(parts == part))
            yield out

    def _own_plan(self, plan: ReadPlan, part_of: Rows, part: int) -> ReadPlan:
        """The rows of a plan that are in a part, in the numbers of the part."""
        places = np.flatnonzero(part_of == part)
        rows = plan.rows[places] - self._index.starts[part]
        return ReadPlan(rows, plan.views[places], np.searchsorted(places, plan.pool_ends))


class _PartStream:
    """Takes any number of rows at a time from batches."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._batch: Any = ()
        self._used = 0

    def fill(self, out: Any, places: Rows) -> None:  # noqa: ANN401 - an array or a tensor
        """Write the next rows to some places of a batch."""
        while len(places):
            if self._used == len(self._batch):
                self._batch, self._used = next(self._batches), 0
            rows = self._batch[self._used : self._used + len(places)]
            out[places[: len(rows)]] = rows
            self._used += len(rows)
            places = places[len(rows) :]
