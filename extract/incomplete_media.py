"""Media that were encoded although a part of them is missing: said at the end, and listed."""

from collections.abc import Iterator
from contextlib import contextmanager

from epalm.cache.records.extraction_log import incomplete_file, log_incomplete
from epalm.console import note
from epalm.media.decode_damage import collect_damage

SHOWN_NOTES = 5
"""Notes that are quoted; the file beside the store has all of them."""


@contextmanager
def incomplete_listed(store: str) -> Iterator[None]:
    """Say and list which media the decoders find incomplete until the block ends, however it ends.

    Args:
        store: path or URL; behind a URL nothing is listed.
    """
    with collect_damage() as found:
        try:
            yield
        finally:
            notes = list(dict.fromkeys(found))  # the views of one medium may be decoded apart
            if notes:
                log_incomplete(store, notes)
                for line in _described(store, notes):
                    note(line)


def _described(store: str, notes: list[str]) -> Iterator[str]:
    yield f"encoded although damaged or cut off: {len(notes)}, e.g."
    yield from (f"  {line}" for line in notes[:SHOWN_NOTES])
    if file := incomplete_file(store):
        yield f"all of them: {file}"
