"""Find the files of a dataset that is given as a path: manifests, tars, tables or media files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from epalm.errors import MalformedFileError, MissingFileError
from epalm.tasks import manifest
from epalm.tasks.readers.folder_check import check_target, refuse_unreadable
from epalm.tasks.readers.tar_shards import TAR_EXTENSION
from epalm.untrusted.json_values import SURROGATE
from epalm.untrusted.quoted_values import quote

InputKind: TypeAlias = Literal["manifest", "tar", "table", "media"]
"""What the samples of a dataset are listed by."""

TABLE_EXTENSION = ".parquet"

_ENDINGS: dict[str, InputKind] = {
    TAR_EXTENSION: "tar",
    TABLE_EXTENSION: "table",
    **dict.fromkeys(manifest.FORMATS, "manifest"),
}


@dataclass(frozen=True)
class InputFiles:
    """The files of a dataset.

    Attributes:
        kind: what they are.
        root: the data root: the folder, or that of the file.
        name: name of the dataset.
        files: paths of manifests, tars or tables, in the order of the rows; empty for media files.
    """

    kind: InputKind
    root: Path
    name: str
    files: tuple[Path, ...]

    @property
    def nbytes(self) -> int:
        """Size of all files together."""
        return sum(file.stat().st_size for file in self.files)


def find_input(path: Path) -> InputFiles:
    """What a path contains. A folder with a manifest is a manifest, whatever else is there.

    Args:
        path: a file, or a folder in which tars, tables and media files are searched recursively.

    Raises:
        MissingFileError: the folder has neither, or a link in it leads nowhere.
        MalformedFileError: the folder has files of several kinds.
    """
    path = path.absolute()
    if path.is_file():
        kind = _ENDINGS.get(path.suffix.lower(), "manifest")
        folder = path.parent
        files = manifest.files_of(path) if kind == "manifest" else [path]
        return InputFiles(kind, folder, f"{folder.resolve().name}-{path.stem}", tuple(files))
    name = path.resolve().name
    if manifest.is_in(path):
        return InputFiles("manifest", path, name, tuple(manifest.files_of(path)))
    return _find_in_folder(path, name)


def _find_in_folder(root: Path, name: str) -> InputFiles:
    """The files of the kind of the first file; media files are not listed."""
    kind: InputKind | None = None
    files: list[Path] = []
    for folder, names in walk(root):
        for file in names:
            other = kind_of_file(file)
            kind = kind or other
            if other == kind == "media":
                return InputFiles("media", root, name, ())
            if other and other != kind:
                raise mixed_kinds(root, str(files[0]), str(Path(root, folder, file)))
            if other:
                files.append(Path(root, folder, file))
                check_target(files[-1])
    if kind:
        return InputFiles(kind, root, name, tuple(files))
    raise MissingFileError(
        f"{root} contains no manifest (train.jsonl, val.jsonl, test.jsonl, or .csv), and neither "
        "tar files, Parquet tables nor media files: see docs/reference/data.md"
    )


def kind_of_file(name: str) -> InputKind | None:
    """The kind of a file in a folder without a manifest; None for a file that is not read."""
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - millions of names
    if extension in manifest.MODALITY_OF:
        return "media"
    return _ENDINGS.get(extension)


def mixed_kinds(root: Path, first: str, other: str) -> MalformedFileError:
    """The error for a folder with files of several kinds."""
    return MalformedFileError(
        f"{root} contains files of several kinds, e.g. {first} and {other}: give a folder of one "
        "kind, so that no sample is counted twice"
    )


def walk(root: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Folder relative to the root ("" for itself) and sorted file names, in sorted order.

    Raises:
        MalformedFileError: a name is not UTF-8.
        OSError: a folder cannot be listed.
    """
    for folder, subfolders, files in os.walk(root, onerror=refuse_unreadable):
        subfolders.sort()
        relative = os.path.relpath(folder, root)
        relative = "" if relative == os.curdir else relative
        files.sort()
        for file in (*files, *subfolders):
            if not file.isascii() and SURROGATE.search(file):
                raise MalformedFileError(
                    f"{quote(str(Path(relative, file)))}: the name is not UTF-8: rename the file"
                )
        yield relative, files
