"""Errors about a path or URL without an intact feature store."""

from collections.abc import Sequence
from pathlib import Path

from epalm.cache.formats.store_format import SUFFIXES
from epalm.errors import CorruptShardError, StoreError

MAX_NEIGHBORS = 5
"""Number of stores in the same folder that an error names."""


def missing_store_error(location: str) -> StoreError:
    """The error for a location with nothing there; it names the stores in the same folder.

    Args:
        location: path or URL; only the folder of a path is listed.
    """
    message = f"found nothing at {location}: run `epalm-extract` first, or correct the path"
    folder = Path(location).parent
    names = [] if "://" in location else _stores_in(folder)
    if not names:
        return StoreError(message)
    more = f" and {len(names) - MAX_NEIGHBORS} more" if len(names) > MAX_NEIGHBORS else ""
    return StoreError(f"{message}; {folder} has {', '.join(names[:MAX_NEIGHBORS])}{more}")


def no_store_error(location: str, files: Sequence[str]) -> StoreError:
    """The error for a location without a store, with these files."""
    return other_files_error(location) if files else missing_store_error(location)


def other_files_error(location: str) -> StoreError:
    """The error for a location with files that do not form a store."""
    return StoreError(
        f"found no feature store at {location}, but other files: specify another path; if it was a "
        f"store, run `epalm-extract repair {location}`, then extract again"
    )


def damaged_store_error(location: str, problem: str) -> CorruptShardError:
    """The error for a store with a damaged file."""
    return CorruptShardError(
        f"{location} is damaged, {problem}: run `epalm-extract repair {location}`, then extract "
        "again"
    )


def _stores_in(folder: Path) -> list[str]:
    """Names of the stores in a folder, sorted; none if it cannot be read."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES)
    except OSError:
        return []
