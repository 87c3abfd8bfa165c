"""Notes on files of which a part is missing: decoded all the same, counted, and listed."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def note_damage(note: str) -> None:
    """Leave a note for `collect_damage`.

    Args:
        note: the file's name and how much of it could be decoded, one line.
    """
    notes = _NOTES.get()
    if notes is not None:
        notes.append(note)


@contextmanager
def collect_damage() -> Iterator[list[str]]:
    """Collect what the decoders note until the block ends, in this thread alone."""
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)
