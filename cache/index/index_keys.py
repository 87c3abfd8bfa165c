"""The keys of an index as a sequence, in place of a tuple of all keys."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import overload

from epalm.cache.index.sample_index import SampleIndex

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

    def update_digest(self, digest: "hashlib._Hash") -> None:
        """Add all keys to a digest of a store, see `StoreSpec.digest`."""
        last = b"\n"
        for lines in self.source.key_lines(self._count):
            digest.update(last)
            digest.update(memoryview(lines)[:-1])
            last = lines[-1:]
