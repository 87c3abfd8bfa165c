"""The medium that was decoded last, for those of its views that are asked for next."""

from collections.abc import Callable
from typing import Generic, TypeVar

from epalm.tasks.types import MediaItem

Decoded = TypeVar("Decoded")


class LastItemCache(Generic[Decoded]):
    """What one medium held; it stays behind when its owner travels to another process."""

    def __init__(self) -> None:
        self._held: dict[MediaItem, Decoded] = {}

    def of(self, item: MediaItem, decode: Callable[[MediaItem], Decoded]) -> Decoded:
        """What `item` holds, decoded unless it was the last one asked for."""
        if item not in self._held:
            self._held.clear()
            self._held[item] = decode(item)
        return self._held[item]

    def __reduce__(self) -> "tuple[type[LastItemCache[Decoded]], tuple[()]]":
        """Travel empty."""
        return LastItemCache, ()
