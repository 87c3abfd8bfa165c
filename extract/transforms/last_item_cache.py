"""A cache of the sample that was decoded last, whose other views are needed next."""

from collections.abc import Callable
from typing import Generic, TypeVar

from epalm.tasks.types import MediaItem

Decoded = TypeVar("Decoded")


class LastItemCache(Generic[Decoded]):
    """The decoded form of one sample; empty after its owner is sent to another process."""

    def __init__(self) -> None:
        self._entries: dict[MediaItem, Decoded] = {}

    def get(self, item: MediaItem, decode: Callable[[MediaItem], Decoded]) -> Decoded:
        """The decoded sample; `decode` is called unless the sample is the last one decoded."""
        if item not in self._entries:
            self._entries.clear()
            self._entries[item] = decode(item)
        return self._entries[item]

    def __reduce__(self) -> "tuple[type[LastItemCache[Decoded]], tuple[()]]":
        """Pickle as an empty cache."""
        return LastItemCache, ()
