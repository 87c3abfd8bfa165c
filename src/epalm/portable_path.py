"""Locations in the files of a run, written so that the folder can move to another machine.

A file or folder is written relative to the folder of the run, beginning with "./" or "../", and
what comes with this package as "package:<path>". Hub ids and URLs are written as they are.
"""

import os
from pathlib import Path, PurePath

PACKAGE = Path(__file__).parent

HUGGING_FACE = "hf:"
"""Beginning of the name of an encoder that is a folder or an id on the hub."""

PACKAGE_PREFIX = "package:"

RELATIVE = ("./", "../")
"""Beginnings of a location that is relative to the folder of its file."""


def to_portable(location: str, folder: Path) -> str:
    """A location as it is written to a file in `folder`.

    Args:
        location: path, URL, or id on the hub. A relative path counts as one if it exists.
        folder: folder of the file, which may move later with all that lies around it.
    """
    if not location or "://" in location:
        return location
    path = Path(location).absolute()
    if not Path(location).is_absolute() and not path.exists():
        return location  # an id on the hub
    if path.is_relative_to(PACKAGE):
        return PACKAGE_PREFIX + path.relative_to(PACKAGE).as_posix()
    relative = PurePath(os.path.relpath(path, os.path.realpath(folder))).as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def from_portable(written: str, folder: Path) -> str:
    """The location that was written to a file in `folder`, a path as an absolute one.

    Args:
        written: text from `to_portable`, or from a file of an earlier version.
        folder: folder of the file.
    """
    if written.startswith(PACKAGE_PREFIX):
        return str(PACKAGE / written.removeprefix(PACKAGE_PREFIX))
    if written.startswith(RELATIVE) or written in {".", ".."}:
        return os.path.normpath(Path(os.path.realpath(folder)) / written)
    return written


def portable_encoder(name: str) -> str:
    """The name of an encoder, with that of the folder alone where it is a local folder."""
    folder = Path(name.removeprefix(HUGGING_FACE))
    local = name.startswith(HUGGING_FACE) and folder.is_absolute()
    return HUGGING_FACE + folder.name if local else name
