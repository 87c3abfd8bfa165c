"""Collect notes on damaged files that were decoded in part."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def note_damage(note: str) -> None:
    """Add a note to the list of the enclosing `collect_damage` block, if there is one.

    Args:
        note: one line with the file's name and how much of it could be decoded.
    """
    notes = _NOTES.get()
    if notes is not None:
        notes.append(note)


@contextmanager
def collect_damage() -> Iterator[list[str]]:
    """Yield a list that receives the decoders' notes of this thread until the block ends."""
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)
