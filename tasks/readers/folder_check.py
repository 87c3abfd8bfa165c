"""Check that the files of a dataset are inside its folder.

A manifest may come from anyone, and a report shows its media: `../../me/private.jpg`, an absolute
path or a symbolic link would put any image of the reader's machine on a page that is passed on.
Only the command-line option --allow-outside permits such paths, and no file records it.
"""

import os
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from epalm.errors import DataError, MissingFileError
from epalm.tasks.types import MediaItem
from epalm.untrusted.quoted_values import quote

OPTION = "--allow-outside"


def check_target(path: Path) -> None:
    """Check that a file that lists samples is not a link to a file that does not exist.

    Raises:
        MissingFileError: it is one; names it and its target.
    """
    if path.is_symlink() and not os.path.exists(path):  # noqa: PTH110 - Path raises on other errors
        raise MissingFileError(
            f"{path} is a link to {quote(str(path.readlink()))}, which does not exist: restore "
            "that file, or remove the link"
        )


def refuse_unreadable(error: OSError) -> None:
    """Raise an error of `os.walk`, which otherwise leaves out a folder that it cannot list.

    Raises:
        OSError: the error, unless the folder was deleted in the meantime.
    """
    if not isinstance(error, FileNotFoundError):
        raise error


class _DatasetFolder(NamedTuple):
    """The folder of a dataset.

    Attributes:
        folder: path as in the items.
        real: path without symbolic links.
        links: sub-folder that was listed -> the names of its symbolic links.
    """

    folder: Path
    real: str
    links: dict[str, frozenset[str]]


def check_inside(items: Iterable[MediaItem]) -> None:
    """Check that no path leads out of its item's folder, directly or by a symbolic link.

    Each folder is listed once, and only symbolic links are resolved, since there may be millions of
    files.

    Raises:
        DataError: a path leads out of the folder; names the first one and its target.
    """
    roots: dict[Path, _DatasetFolder] = {}
    for folder, group in groupby(items, attrgetter("folder")):
        if folder not in roots:
            roots[folder] = _DatasetFolder(folder, os.path.realpath(folder), {})
        _check_below(roots[folder], group)


def _check_below(root: _DatasetFolder, items: Iterable[MediaItem]) -> None:
    """Check the items of one folder."""
    links = root.links
    for item in items:
        folder, _, file = item.name.rpartition("/")
        if item.name.startswith("/") or (".." in item.name and ".." in item.name.split("/")):
            raise _outside(item, os.path.normpath(item.path))
        if folder not in links:
            _check_real(item, root.folder / folder, root.real)
            links[folder] = _links_in(root.folder / folder)
        if file in links[folder]:
            _check_real(item, item.path, root.real)


def _check_real(item: MediaItem, path: Path, root: str) -> None:
    real = os.path.realpath(path)
    if os.path.commonpath([real, root]) != root:
        raise _outside(item, real)


def _links_in(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:  # no such folder: opening the file will report it
        return frozenset()


def _outside(item: MediaItem, target: str) -> DataError:
    return DataError(
        f"the file {quote(item.name)} leads out of {item.folder}, to {target}: move it into that "
        f"folder, or give {OPTION} if you trust the author of the dataset"
    )
