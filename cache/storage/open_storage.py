"""From a path or URL to the storage behind it."""

import posixpath
from pathlib import Path

from epalm.cache.storage.local_storage import PUT_FOLDER, LocalStorage
from epalm.cache.storage.storage import Storage


def open_storage(root: str, private: str) -> Storage:
    """The storage at a path or URL.

    Args:
        root: path or URL.
        private: the store's private folder, relative to `root`.
    """
    if "://" in root:
        from epalm.cache.storage.fsspec_storage import FsspecStorage

        return FsspecStorage(root)
    return LocalStorage(Path(root), posixpath.join(private, PUT_FOLDER))


def absolute_location(location: str) -> str:
    """A path made absolute; a URL unchanged."""
    return location if "://" in location else str(Path(location).absolute())
