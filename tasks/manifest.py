"""Manifests, for your own data: a folder with a JSONL or CSV file per split, one example per line.

    {"id": "q17", "media": "images/7.jpg", "prompt": "what is on the desk?", "answers": ["lamp"]}

`media` is relative to the folder. Without `prompt`, the line is a captioning example and `answers`
are its captions. The optional `question_type` and `answer_type` add tables of scores by group.

A CSV file has the same columns; its cell `answers` contains a JSON list, or texts separated by "|".
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from sys import intern

from epalm.errors import DataError, MalformedFileError, MissingFileError
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.readers.folder_check import check_target
from epalm.tasks.readers.gc_pause import gc_paused
from epalm.tasks.readers.manifest_rows import ManifestRow, read_rows
from epalm.tasks.types import Example, Kind, MediaItem, MediaSet, Modality, Task

TASK = "manifest"
"""Name of the task of every manifest."""

SPLITS = ("train", "val", "test")
"""Splits whose files form the dataset of a folder; single files may have other names."""

FORMATS = (".jsonl", ".csv")

MODALITIES: dict[Modality, str] = {
    "image": ".jpg .jpeg .png .webp .bmp .tif .tiff",
    "video": ".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .gif .3gp .flv .ogv .wmv",
    "audio": ".wav .flac .ogg .opus .mp3 .aif .aiff .m4a .aac",
}
"""Modality by file extension."""

MODALITY_OF: dict[str, Modality] = {
    extension: modality
    for modality, extensions in MODALITIES.items()
    for extension in extensions.split()
}
"""File extension -> modality."""


@gc_paused()
def media(path: Path) -> MediaSet:
    """List each media file of a manifest once, in order of first appearance in its splits.

    Args:
        path: a folder with some of train, val and test (.jsonl or .csv), or a single such file of
            any name.

    Returns:
        The dataset. Its name is the folder's name, followed by "-" and the file's stem if `path` is
        a file. Its keys are the `media` values as written.

    Raises:
        MissingFileError: the path does not exist, or the folder has none of the splits.
        MalformedFileError: a file or line is malformed, or only some lines have a prompt; names the
            line.
    """
    path = path.absolute()
    folder = path if path.is_dir() else path.parent
    name = folder.resolve().name if path.is_dir() else f"{folder.resolve().name}-{path.stem}"
    items: dict[str, MediaItem] = {}
    files = files_of(path)
    kind: Kind | None = None
    for file in files:
        for row in read_rows(file):
            kind = kind or kind_of(row)
            check_kind(row, kind, files[0])
            if row.media not in items:
                items[row.media] = _item(row, folder)
    return MediaSet(name, tuple(items.values()), (TASK,), folder)


def task(root: Path) -> Task:
    """Return the task of a manifest.

    Args:
        root: folder of the manifest; every JSONL or CSV file in it is a split.

    Returns:
        A task of kind "qa" with the metric "exact" if the first line of its first file has a
        prompt; else a task of kind "caption" with the metric "caption".

    Raises:
        MissingFileError: the folder contains no manifest.
        MalformedFileError: the first file is malformed.
    """
    files = _split_files(root)
    kind = kind_of(next(read_rows(next(iter(files.values())))))
    metric = "exact" if kind == "qa" else "caption"
    return Task(TASK, kind, metric, tuple(files), partial(examples, kind))


@gc_paused()
def examples(kind: Kind, split: str, root: Path) -> list[Example]:
    """Read the examples of `<root>/<split>.jsonl` or `.csv`, in file order.

    Args:
        kind: "qa" if every line must have a prompt, "caption" if none may have one.
        split: stem of the file.
        root: folder of the manifest.

    Raises:
        UnknownSplitError: there is no such file; lists the splits.
        MissingFileError: the folder contains no manifest.
        MalformedFileError: a line is malformed, is of another kind, repeats an id or, in the split
            train, has no answer. Names the line.
    """
    files = _split_files(root)
    first = next(iter(files.values()))
    check_split(split, tuple(files), owner=f"the manifest {root}")
    results: list[Example] = []
    seen: set[str] = set()
    for row in read_rows(files[split]):
        check_kind(row, kind, first)
        if split == "train" and not row.answers:
            raise row.error("no answers: the training split needs at least one in every line")
        if row.id in seen:
            line = next(earlier.line for earlier in read_rows(row.file) if earlier.id == row.id)
            raise row.error(f"id {row.id!r} is already used in line {line}")
        seen.add(row.id)
        results.append(_example(row))
    return results


def listed_keys(manifest: Task, root: Path) -> Iterator[list[str]]:
    """The keys of the examples of each split of a manifest; a malformed file is left out.

    Args:
        manifest: task of the manifest.
        root: folder of the manifest.
    """
    for split in manifest.splits:
        with suppress(DataError):
            yield [example.key for example in manifest.examples(split, root)]


def files_of(path: Path) -> list[Path]:
    """The split files of a manifest, in the order in which their media become rows of a store.

    Raises:
        MissingFileError: the folder has none, or one of them is a link that leads nowhere.
        MalformedFileError: the file has another extension, or a split has two files.
    """
    if path.is_file():
        if path.suffix not in FORMATS:
            raise MalformedFileError(f"{path} does not end in {' or '.join(FORMATS)}")
        return [path]
    files = _split_files(path)
    present = [files[split] for split in SPLITS if split in files]
    if not present:
        raise MissingFileError(
            f"{path} contains none of train, val and test (.jsonl or .csv), only "
            f"{', '.join(files)}: rename a file, or give one file instead of the folder"
        )
    return present


def is_in(folder: Path) -> bool:
    """Whether a folder contains a manifest, readable or not."""
    return any(entry.suffix in FORMATS for entry in folder.iterdir())


def _split_files(folder: Path) -> dict[str, Path]:
    """Map each split of a folder to its file; train, val and test come first."""
    paths = [path for path in sorted(folder.glob("*")) if path.suffix in FORMATS]
    for path in paths:
        check_target(path)
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise MissingFileError(
            f"{folder} contains no manifest: expected train.jsonl, val.jsonl, test.jsonl (or .csv) "
            'with one line {"id": ..., "media": ..., "prompt": ..., "answers": [...]} per example; '
            "for the files of a benchmark give its name and this folder, e.g. --dataset coco "
            "--data-root FOLDER (docs/reference/data.md)"
        )
    paths.sort(key=lambda path: SPLITS.index(path.stem) if path.stem in SPLITS else len(SPLITS))
    files: dict[str, Path] = {}
    for path in paths:
        if path.stem in files:
            raise MalformedFileError(
                f"{folder} contains {files[path.stem].name} and {path.name}: remove one of them"
            )
        files[path.stem] = path
    return files


def _item(row: ManifestRow, folder: Path) -> MediaItem:
    return MediaItem(row.media, folder, row.media, modality_of(row))


def modality_of(row: ManifestRow) -> Modality:
    """The modality of the media file of a line.

    Raises:
        MalformedFileError: the extension is unknown; names the line.
    """
    media = row.media
    modality = MODALITY_OF.get(media[media.rfind(".") :].lower())
    if modality is None:
        supported = ", ".join(MODALITY_OF)
        raise row.error(f"media {media!r} has none of the supported extensions {supported}")
    return modality


def kind_of(row: ManifestRow) -> Kind:
    """Kind of the manifest if this is the first line of its first file."""
    return "qa" if row.prompt else "caption"


def check_kind(row: ManifestRow, kind: Kind, first: Path) -> None:
    """Refuse a line of another kind than that of the first line of the file `first`.

    Raises:
        MalformedFileError: names the line.
    """
    if kind_of(row) == kind:
        return
    remedy = "put questions and captions into separate folders"
    if kind == "qa":
        raise row.error(f"no prompt, but the first line of {first.name} has one: {remedy}")
    raise row.error(f"a prompt, but the first line of {first.name} has none: {remedy}")


def _example(row: ManifestRow) -> Example:
    return Example(
        intern(row.media),  # most media files are in several lines
        row.id,
        row.prompt,
        row.answers,
        references=row.answers,
        question_type=intern(row.question_type),
        answer_type=intern(row.answer_type),
    )
