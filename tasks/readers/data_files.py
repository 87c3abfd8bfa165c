"""Find the files and folders of datasets; check splits and ids."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.types import Example

logger = logging.getLogger(__name__)


def find_file(
    name: str, *, root: Path, folders: Sequence[str], published: str, instead: Sequence[str] = ()
) -> Path:
    """Find a file in the data root or in one of its `folders`.

    Args:
        name: file name.
        root: data root.
        folders: sub-folders to search after the root, in this order.
        published: description of the file and its source, for the error message.
        instead: alternative files, as paths relative to the root; searched last.

    Raises:
        MissingFileError: the file is in none of these places; lists them.
    """
    paths = [root / name, *(root / folder / name for folder in folders)]
    paths += [root / path for path in instead]
    for path in paths:
        if path.is_file():
            return path
    raise MissingFileError(
        f"{name} was not found; searched for {_join(paths)}. It is {published}. Copy it to one of "
        "these paths, or give its folder with --data-root (see docs/reference/data.md)"
    )


def find_available(
    find: Callable[[str], Path], names: Sequence[str], *, owner: str, optional: Sequence[str] = ()
) -> list[Path]:
    """Find the files of a dataset that exist, and log a warning about the others.

    Args:
        find: returns the path of one file, or raises MissingFileError.
        names: names of the files, at least one.
        owner: name of the dataset, for the warning.
        optional: those of `names` that may be missing without a warning.

    Raises:
        MissingFileError: no file exists; describes the first one.
    """
    files: list[Path] = []
    errors: dict[str, MissingFileError] = {}
    for name in names:
        try:
            files.append(find(name))
        except MissingFileError as error:
            errors[name] = error
    if not files:
        raise errors[names[0]]
    if missing := [name for name in errors if name not in optional]:
        warn_missing(owner, files, missing)
    return files


def warn_missing(owner: str, files: Sequence[Path], missing: Sequence[str]) -> None:
    """Log that a dataset is read from `files` alone, without those that are missing."""
    available = ", ".join(file.name for file in files)
    logger.warning(
        "%s: using only the media listed in %s; not found: %s", owner, available, ", ".join(missing)
    )


def find_folder(candidates: Sequence[Path], *, what: str) -> Path:
    """Return the first of the `candidates` that exists; arguments as for `find_folders`."""
    return find_folders(candidates, what=what)[0]


def find_folders(candidates: Sequence[Path], *, what: str) -> list[Path]:
    """Return those of the `candidates` that exist, without duplicates.

    Args:
        candidates: folders in order of preference.
        what: description of the content of the folders and its source, for the error message.

    Raises:
        MissingFileError: no folder exists; lists the candidates.
    """
    candidates = list(dict.fromkeys(candidates))
    folders = [folder for folder in candidates if folder.is_dir()]
    if folders:
        return folders
    raise MissingFileError(
        f"there is no folder of {what}; searched for {_join(candidates)}. Put the files into one "
        "of these, or give the parent folder with --data-root (see docs/reference/data.md)"
    )


def folder_finder(candidates: Sequence[Path], *, what: str) -> Callable[[str], Path]:
    """Return a function from a file name to the folder that contains it, by default the first.

    Each folder is listed once, and files are not looked up one by one: there may be millions.
    Arguments and errors are those of `find_folders`.
    """
    folders = find_folders(candidates, what=what)
    names = {folder: frozenset(os.listdir(folder)) for folder in folders[1:]}  # noqa: PTH208

    def find(name: str) -> Path:
        if not names:
            return folders[0]
        return next((folder for folder, files in names.items() if name in files), folders[0])

    return find


def check_split(split: str, known: Sequence[str], *, owner: str) -> None:
    """Check that `owner` (a task or a file) has a split.

    Raises:
        UnknownSplitError: it has not; lists the known splits.
    """
    if split not in known:
        raise UnknownSplitError(f"{owner} has no split {split!r}: choose one of {', '.join(known)}")


def check_unique_ids(examples: list[Example], *, file: Path) -> list[Example]:
    """Return the examples after checking that no two have the same question_id.

    Args:
        examples: the examples of one split.
        file: the file they were read from, for the error message.

    Raises:
        MalformedFileError: an id is used twice; names the first one.
    """
    seen: set[str] = set()
    for example in examples:
        if example.question_id in seen:
            raise MalformedFileError(f"{file}: duplicate id {example.question_id}")
        seen.add(example.question_id)
    return examples


def _join(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
