"""Several stores, opened together: of the same samples, or parts of one dataset."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from epalm.cache.readers.encoded_examples import Example
from epalm.cache.readers.epoch_order import Rows
from epalm.cache.readers.feature_source import KeyIndex, NumpySource
from epalm.cache.readers.joined.concatenated import (
    ConcatenatedIndex,
    ConcatenatedSubset,
    concatenated_spec,
    select_parts,
)
from epalm.cache.readers.joined.joined_source import (
    JoinedIndex,
    JoinedSource,
    join_arrays,
    located_rows,
)
from epalm.cache.readers.joined.joined_spec import SEPARATOR, joined_spec
from epalm.cache.readers.open_reader import (
    StoreSubset,
    index_store,
    open_reader,
    select_subset,
    shuffle_window,
)
from epalm.cache.readers.reader_choice import (
    LOCAL_READERS,
    Budget,
    ReadRequirements,
    choose_reader,
    ram_budget,
)
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import CacheMismatchError, UsageError

logger = logging.getLogger(__name__)

EXAMPLES = 3
"""Number of keys in a message about different samples."""


@dataclass(frozen=True)
class JoinedSubset:
    """The parts of several stores that a command reads.

    Attributes:
        subsets: part of each store.
        index: keys of the stores.
        spec: joined spec of the stores.
    """

    subsets: tuple[StoreSubset, ...]
    index: JoinedIndex
    spec: StoreSpec

    def requirements(self, batch_size: int) -> ReadRequirements:
        """Sizes of all subsets together, from which a reader is chosen."""
        needs = [subset.requirements(batch_size) for subset in self.subsets]
        return replace(
            needs[0],
            nbytes=sum(need.nbytes for need in needs),
            view_bytes=sum(need.view_bytes for need in needs),
            **shuffle_window(
                self.subsets,
                row_bytes=sum(subset.store.spec.row_bytes for subset in self.subsets),
                shards=len(self.subsets[0].shards),
            ),
        )

    def open(self, reader: str, budget: int) -> NumpySource:
        """Open a reader of each store; see `StoreSubset.open`.

        Args:
            reader: one of `LOCAL_READERS`.
            budget: maximum size of the pools of reader "stream", in bytes, over all stores.
        """
        total = self.requirements(1).view_bytes
        sources = [
            subset.open(reader, budget * subset.requirements(1).view_bytes // total)
            for subset in self.subsets
        ]
        return JoinedSource(sources, self.index.row_maps, join_arrays, self.spec)


AnyIndex = KeyIndex | JoinedIndex | ConcatenatedIndex
AnySubset = StoreSubset | JoinedSubset | ConcatenatedSubset


@dataclass(frozen=True)
class JoinedStores:
    """One store, or several: joined by key, or parts of one dataset.

    Attributes:
        stores: the stores.
        common: use the samples that all stores have; otherwise they must have the same ones.
        parts: the stores have the features of one encoder for different samples.
    """

    stores: tuple[Store, ...]
    common: bool = False
    parts: bool = False

    @classmethod
    def open(
        cls, locations: Sequence[str], *, common: bool = False, concatenate: bool = False
    ) -> Self:
        """Open the stores at paths or URLs.

        Args:
            locations: path or URL of each store.
            common: use the samples that all stores have.
            concatenate: the stores are parts of one dataset.

        Raises:
            StoreError: there is no store.
            UsageError: `common` or `concatenate` with a single store, or both of them, or a store
                is named twice.
            CacheMismatchError: parts have features of different settings.
        """
        if common and concatenate:
            raise UsageError("--common joins stores by key, --concatenate does not: give one")
        if common and len(locations) == 1:
            raise UsageError("--common joins several stores: give --features for each of them")
        if concatenate and len(locations) == 1:
            raise UsageError("--concatenate reads several stores: give --features for each of them")
        if len(set(locations)) < len(locations):
            twice = next(path for path in locations if locations.count(path) > 1)
            raise UsageError(f"--features names {twice} twice: name each store once")
        opened = cls(tuple(map(Store.open, locations)), common, concatenate)
        _ = opened.specs  # compares parts
        return opened

    @property
    def first(self) -> Store:
        """The first store, whose rows the joined rows follow."""
        return self.stores[0]

    def own_rows(self, index: "AnyIndex", rows: Rows) -> Iterator[tuple[Store, Rows]]:
        """Each store whose rows these are, with its own; of joined stores the first one."""
        if not isinstance(index, ConcatenatedIndex):
            yield self.first, rows
            return
        part_of = index.parts_of_rows(rows)
        for part, store in enumerate(self.stores):
            yield store, rows[part_of == part] - index.starts[part]

    @property
    def specs(self) -> tuple[StoreSpec, ...]:
        """The spec of each encoder's features: of each joined store, or of all parts together."""
        if self.parts:
            return (concatenated_spec(self.stores),)
        return tuple(store.spec for store in self.stores)

    @property
    def spec(self) -> StoreSpec:
        """The spec of the single store, or the joined one, see `joined_spec`."""
        return joined_spec(self.specs)

    @property
    def row_shape(self) -> tuple[int, int]:
        """(L, D) of the single store, or (1, W) of a joined row."""
        shapes = [spec.row_shape[1:] for spec in self.specs]
        return shapes[0] if len(shapes) == 1 else (1, sum(count * width for count, width in shapes))

    @property
    def identity(self) -> tuple[tuple[str, int], ...]:
        """Location and generation of each store."""
        return tuple((store.location, store.generation) for store in self.stores)

    @property
    def location(self) -> str:
        """Paths or URLs of the stores, for messages."""
        return SEPARATOR.join(store.location for store in self.stores)

    def index(self, task: str = "") -> AnyIndex:
        """Index the keys of the finished stores; see `index_store`.

        Raises:
            CacheMismatchError: the stores have different samples, and `common` is not set.
        """
        indices = [index_store(store, task) for store in self.stores]
        if len(indices) == 1:
            return indices[0]
        if self.parts:
            return ConcatenatedIndex(indices, self.location)
        self._check_keys(indices)
        return JoinedIndex(indices)

    def select(
        self, index: AnyIndex, *, keys: Sequence[str], views: int | None = None
    ) -> AnySubset:
        """Select the shards with the needed samples; see `select_subset`."""
        if isinstance(index, KeyIndex):
            return select_subset(self.first, index, keys=keys, views=views)
        views = self.spec.views if views is None else views
        if isinstance(index, ConcatenatedIndex):
            return select_parts(self.stores, index, keys=keys, views=views, spec=self.spec)
        subsets = [
            select_subset(store, own, keys=keys, views=views)
            for store, own in zip(self.stores, index.indices, strict=True)
        ]
        return JoinedSubset(tuple(subsets), index, self.spec)

    def _check_keys(self, indices: Sequence[KeyIndex]) -> None:
        extra = [_keys_without_partner(index, indices) for index in indices]
        common = len(indices[0].keys) - extra[0].number
        if not common:
            raise CacheMismatchError(
                f"{self.location} have no sample in common: extract the same dataset with each "
                "encoder, or give --concatenate to read them as parts of one dataset"
            )
        if self.common or not any(keys.number for keys in extra):
            return
        differences = [
            f"{store.location} has {keys.number} that not all have, such as "
            + ", ".join(map(repr, keys.examples))
            for store, keys in zip(self.stores, extra, strict=True)
            if keys.number
        ]
        raise CacheMismatchError(
            f"the stores have different samples: {'; '.join(differences)}. Extract the same "
            f"dataset with each encoder, or give --common to use the "
            f"{counted(common, 'sample')} that all have"
        )


class _Keys(NamedTuple):
    """Some keys of a store: their number and the first of them."""

    number: int
    examples: list[str]


def _keys_without_partner(index: KeyIndex, indices: Sequence[KeyIndex]) -> _Keys:
    """The keys of a store that not all stores have."""
    count, examples, start = 0, list[str](), 0
    others = [located_rows(index, other) for other in indices if other is not index]
    for blocks in zip(*others, strict=True):
        alone = np.flatnonzero(np.min(blocks, axis=0) < 0)
        shown = alone[: EXAMPLES - len(examples)].tolist()
        examples += [index.keys[start + row] for row in shown]
        count, start = count + len(alone), start + len(blocks[0])
    return _Keys(count, examples)


def in_all_stores(examples: Sequence[Example], index: AnyIndex, split: str) -> list[Example]:
    """The examples whose sample is in all stores; the number of others is logged.

    Raises:
        CacheMismatchError: there are examples, but none of them is in all stores.
    """
    present = index.has([example.key for example in examples])
    kept = [example for example, ok in zip(examples, present, strict=True) if ok]
    if examples and not kept:
        raise CacheMismatchError(
            f"{split}: no sample of its {len(examples)} examples is in all stores: extract this "
            "split with each encoder, or leave out a store"
        )
    if len(kept) < len(examples):
        logger.info(
            "%s: %d of %d examples left out, their sample is not in all stores",
            split,
            len(examples) - len(kept),
            len(examples),
        )
    return kept


def open_joined_reader(
    stores: JoinedStores, *, reader: str, keys: Sequence[str], task: str, views: int = 1
) -> NumpySource:
    """Open one store or joined ones, to read samples in any order.

    Args:
        stores: the stores.
        reader: one of `LOCAL_READERS`, or "auto".
        keys: keys of the samples that will be read.
        task: name of the task that needs the features, for error messages.
        views: number of views that will be read, from view 0 on.

    Raises:
        CacheMismatchError: the stores have different samples.
        UnknownKeyError: a key is not in all stores.
        UsageError: the reader cannot work.
    """
    if len(stores.stores) == 1:
        return open_reader(stores.first, reader=reader, keys=keys, views=views, task=task)
    subset = stores.select(stores.index(task), keys=keys, views=views)
    budget = Budget(ram_budget(reader))
    choice = choose_reader(reader, subset.requirements(1), budget, readers=LOCAL_READERS)
    return subset.open(choice.reader, budget.ram)
