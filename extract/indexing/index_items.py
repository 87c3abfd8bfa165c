"""The samples of an index as media items, which are read when they are used."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.index.index_parts import TO_THE_END, Location
from epalm.cache.index.sample_index import SampleIndex
from epalm.errors import DataError
from epalm.extract.indexing.table_cell import TableCell
from epalm.tasks.readers.folder_check import OPTION, check_inside
from epalm.tasks.types import ByteRange, MediaItem, MediaSet, Modality
from epalm.untrusted.quoted_values import quote

BLOCK_ITEMS = 256
"""Items that are read at a time."""

KEPT_BLOCKS = 64
"""Blocks of items that are kept: those that one shard is reading."""


class IndexItems(Sequence[MediaItem]):
    """The samples of some consecutive rows of an index."""

    def __init__(
        self,
        index: SampleIndex,
        root: Path,
        *,
        allow_outside: bool = False,
        rows: range | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            index: the index.
            root: data root.
            allow_outside: allow paths and links that lead out of the data root.
            rows: consecutive rows; all by default.
        """
        self.source = index
        self.root = root
        self._allow_outside = allow_outside
        self.rows = range(len(index)) if rows is None else rows
        self._block = lru_cache(KEPT_BLOCKS)(self._read_block)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> Sequence[str]:
        """The keys of these rows."""
        if self.rows.start:
            return self.source.keys(self.rows.start, self.rows.stop)
        return IndexKeys(self.source, len(self.rows))

    @property
    def modality(self) -> Modality:
        """The modality of all samples."""
        labels: dict[str, Modality] = {"video": "video", "audio": "audio"}
        return labels.get(self.source.labels.get("modality", ""), "image")

    @overload
    def __getitem__(self, at: int) -> MediaItem: ...

    @overload
    def __getitem__(self, at: slice) -> "IndexItems": ...

    def __getitem__(self, at: int | slice) -> "MediaItem | IndexItems":
        """An item, or the items of a slice, which has no step."""
        rows = self.rows[at]
        if isinstance(rows, range):
            return IndexItems(self.source, self.root, allow_outside=self._allow_outside, rows=rows)
        block, number = divmod(rows, BLOCK_ITEMS)
        return self._block(block)[number]

    def __iter__(self) -> Iterator[MediaItem]:
        start = self.rows.start
        while start < self.rows.stop:
            block, first = divmod(start, BLOCK_ITEMS)
            last = min(BLOCK_ITEMS, self.rows.stop - block * BLOCK_ITEMS)
            yield from self._block(block)[first:last]
            start = block * BLOCK_ITEMS + last

    def _read_block(self, block: int) -> list[MediaItem]:
        """The items of a block of rows of the index; errors as in `SampleIndex.items`.

        Raises:
            DataError: a path leads out of the data root.
        """
        start = block * BLOCK_ITEMS
        samples = self.source.items(start, min(start + BLOCK_ITEMS, len(self.source)))
        modality = self.modality
        items = [
            MediaItem(key, self.root, place.name, modality, _part(place)) for key, place in samples
        ]
        if not self._allow_outside:
            _check_inside(items, self.root)
        return items


class RowsOfItems(Sequence["MediaItem | None"]):
    """The samples of an index in the order of the rows of a store; None where it has none."""

    def __init__(self, items: IndexItems, rows: NDArray[np.int64]) -> None:
        """Read nothing yet.

        Args:
            items: samples of an index.
            rows: (rows of the store,) position among `items`, or -1.
        """
        self._items = items
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> MediaItem | None: ...

    @overload
    def __getitem__(self, at: slice) -> "list[MediaItem | None]": ...

    def __getitem__(self, at: int | slice) -> "MediaItem | list[MediaItem | None] | None":
        """An item or None, or those of a slice."""
        if isinstance(at, slice):
            return [self._item(row) for row in self._rows[at].tolist()]
        return self._item(int(self._rows[at]))

    def _item(self, row: int) -> MediaItem | None:
        return None if row < 0 else self._items[row]

    def absent(self, rows: range) -> NDArray[np.int64]:
        """Those of some rows of the store that have no sample, counted from the first one."""
        return np.flatnonzero(self._rows[rows.start : rows.stop] < 0)


def index_media(index: SampleIndex, root: Path, *, allow_outside: bool) -> MediaSet:
    """The dataset of an index."""
    labels = index.labels
    items = IndexItems(index, root, allow_outside=allow_outside)
    tasks = tuple(filter(None, labels.get("tasks", "").split(",")))
    return MediaSet(labels.get("dataset", ""), items, tasks, root)


def match_index(items: IndexItems, keys: Sequence[str]) -> "Sequence[MediaItem | None]":
    """The sample of each key of a store; None for a key that no sample has."""
    if isinstance(keys, IndexKeys) and keys.source is items.source and len(keys) == len(items):
        return items
    steps = range(0, len(keys), 1 << 16)
    found = [items.source.find(keys[start : start + (1 << 16)]) for start in steps]
    rows = np.concatenate([np.empty(0, np.int64), *found])
    rows[(rows < items.rows.start) | (rows >= items.rows.stop)] = -1
    rows[rows >= 0] -= items.rows.start
    same = len(rows) == len(items) and (rows == np.arange(len(rows))).all()
    return items if same else RowsOfItems(items, rows)


def _part(place: Location) -> ByteRange | TableCell | None:
    if place.row_group >= 0:
        return TableCell(place.offset, place.nbytes, place.row_group, place.column)
    return None if place.nbytes == TO_THE_END else ByteRange(place.offset, place.nbytes)


def _check_inside(items: Sequence[MediaItem], root: Path) -> None:
    """Check that no path leads out of the root; links are examined one by one.

    `check_inside` lists each folder to find its links, which takes too long for some files of a
    folder of millions.

    Raises:
        DataError: names the first path that does.
    """
    real_root = os.path.realpath(root)
    checked: set[str] = set()
    for item in items:
        name = item.name
        folder = name.rpartition("/")[0]
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            check_inside([item])
        if folder not in checked:
            _check_real(root, folder, real_root)
            checked.add(folder)
        if item.part is None or name not in checked:
            if os.path.islink(f"{root}/{name}"):  # noqa: PTH114 - millions of files
                _check_real(root, name, real_root)
            if item.part is not None:
                checked.add(name)


def _check_real(root: Path, name: str, real_root: str) -> None:
    real = os.path.realpath(root / name)
    if os.path.commonpath([real, real_root]) != real_root:
        raise DataError(
            f"the file {quote(name)} leads out of {root}, to {real}: move it into that folder, or "
            f"give {OPTION} if you trust the author of the dataset"
        )
