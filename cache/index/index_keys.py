"""The keys of an index as a sequence, in place of a tuple of all keys."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.index.vlen_keys import KeysChunk

ITERATED_KEYS = 1 << 16
"""Keys that are read at a time while all are iterated over."""


class IndexKeys(Sequence[str]):
    """The keys of the first rows of an index, as a sequence that is read when it is used."""

    def __init__(self, source: SampleIndex, count: int | None = None) -> None:
        """The first `count` keys, all by default."""
        self.source = source
        self._count = len(source) if count is None else min(count, len(source))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        """A key, or the keys of a slice."""
        if isinstance(at, slice):
            start, stop, step = at.indices(self._count)
            if step > 0:
                return self.source.keys(start, max(start, stop))[::step]
            return [self[row] for row in range(start, stop, step)]
        row = at + self._count if at < 0 else at
        if not 0 <= row < self._count:
            raise IndexError(f"row {at} of {self._count}")
        return self.source.keys(row, row + 1)[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, self._count, ITERATED_KEYS):
            yield from self.source.keys(start, min(start + (ITERATED_KEYS), self._count))

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, str):
            return False
        return 0 <= int(self.source.find([key])[0]) < self._count

    def find(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """(keys,) the row of each key; -1 for one that is not among these."""
        rows = self.source.find(keys)
        rows[rows >= self._count] = -1
        return rows

    def take(self, rows: NDArray[np.int64]) -> Iterator[str]:
        """The keys of ascending rows."""
        for step in np.split(rows, np.flatnonzero(np.diff(rows // ITERATED_KEYS)) + 1):
            if len(step):
                first = int(step[0])
                keys = self.source.keys(first, int(step[-1]) + 1)
                yield from (keys[row - first] for row in step.tolist())

    @property
    def chunk(self) -> KeysChunk:
        """The chunk of the keys in a Zarr store."""
        sums = self.source.header.chunk if len(self) == len(self.source) else None
        return KeysChunk(len(self), _Lines(self), sums)

    def digest(self, settings: bytes) -> str:
        """The digest of a store with these keys, see `StoreSpec.digest`; computed once."""
        return self.source.digest(settings, len(self))


class _Lines:
    """The lines of some keys, which can be iterated over several times."""

    def __init__(self, keys: IndexKeys) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[bytes]:
        return self._keys.source.key_lines(len(self._keys))
