"""Report samples that were encoded although their files are damaged or cut off."""

from collections.abc import Iterator
from contextlib import contextmanager

from epalm.cache.records.extraction_log import incomplete_file, log_incomplete
from epalm.console import note
from epalm.media.decode_damage import collect_damage

SHOWN_NOTES = 5
"""Number of notes that are printed; the file beside the store lists all of them."""


@contextmanager
def incomplete_listed(store: str) -> Iterator[None]:
    """Print and list the samples that decoders find incomplete, also when the block raises.

    Args:
        store: path or URL of the store; for a URL no list is written.
    """
    with collect_damage() as damage:
        try:
            yield
        finally:
            notes = list(dict.fromkeys(damage))  # each view of a sample may note it
            if notes:
                log_incomplete(store, notes)
                for line in _described(store, notes):
                    note(line)


def _described(store: str, notes: list[str]) -> Iterator[str]:
    yield f"encoded although damaged or cut off: {len(notes)}, e.g."
    yield from (f"  {line}" for line in notes[:SHOWN_NOTES])
    if file := incomplete_file(store):
        yield f"full list: {file}"
