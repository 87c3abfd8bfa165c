"""Whether the files that a data set names are in its folder.

Anyone may hand out a manifest, and a report shows the media that it names: `../../me/private.jpg`,
an absolute path or a symbolic link would put any image of the reader's machine on a page that is
passed on. Only the option --allow-outside of a command permits that, and no file records it.
"""

import os
from collections.abc import Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from epalm.errors import DataError
from epalm.tasks.readers.json_values import shown
from epalm.tasks.types import MediaItem

OPTION = "--allow-outside"


class _Root(NamedTuple):
    """A folder that items must not lead out of.

    Attributes:
        folder: as items name it.
        real: without symbolic links.
        links: name of a folder below it that was listed -> the symbolic links in there.
    """

    folder: Path
    real: str
    links: dict[str, frozenset[str]]


def check_inside(items: Iterable[MediaItem]) -> None:
    """Refuse a name that leads out of its item's folder, by itself or by a symbolic link.

    Each folder is listed once; no file is looked at unless it is a link, as there may be millions.

    Raises:
        DataError: names the first such item and where it leads.
    """
    roots: dict[Path, _Root] = {}
    for folder, own in groupby(items, attrgetter("folder")):
        if folder not in roots:
            roots[folder] = _Root(folder, os.path.realpath(folder), {})
        _check_below(roots[folder], own)


def _check_below(root: _Root, items: Iterable[MediaItem]) -> None:
    """Check items of one folder."""
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
    except OSError:  # not there, or not a folder: opening the file will say so
        return frozenset()


def _outside(item: MediaItem, target: str) -> DataError:
    return DataError(
        f"the file {shown(item.name)} leads out of {item.folder}, to {target}: put the file into "
        f"that folder, or, if you trust who wrote that name, give {OPTION} to this command"
    )
