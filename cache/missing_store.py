"""The error about a store that does not exist: it names the stores next to the place looked at."""

from pathlib import Path

from epalm.cache.formats.store_format import SUFFIXES
from epalm.errors import StoreError

SHOWN = 5
"""Number of neighboring stores that the error names."""


def nothing_at(location: str) -> StoreError:
    """The error to raise for a location at which there is nothing.

    Args:
        location: path or URL that was looked at; only the neighbors of a path are listed.
    """
    message = f"found nothing at {location}: run `epalm-extract` first, or correct the path"
    folder = Path(location).parent
    names = [] if "://" in location else _stores_in(folder)
    if not names:
        return StoreError(message)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return StoreError(f"{message}; {folder} has {', '.join(names[:SHOWN])}{more}")


def _stores_in(folder: Path) -> list[str]:
    """Names of the stores in a folder, sorted; none if it cannot be read."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    except OSError:
        return []
