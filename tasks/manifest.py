"""Anyone's own data: a folder with one JSONL or CSV file per split, one example a line.

    {"id": "q17", "media": "images/7.jpg", "prompt": "what is on the desk?", "answers": ["lamp"]}

`media` is relative to the folder. Without `prompt` the line is a captioning record and `answers`
are its captions. `question_type` and `answer_type` may be added, for tables of scores by group. A
CSV file has the same columns; its cell `answers` holds a JSON list, or texts separated by "|".
"""

from functools import partial
from pathlib import Path
from sys import intern

from epalm.errors import MalformedFileError, MissingFileError
from epalm.tasks.readers.collection import without_collection
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.readers.manifest_rows import Line, read_lines
from epalm.tasks.types import Example, Kind, MediaItem, MediaSet, Modality, Task

TASK = "manifest"
"""Name of the task over any manifest's media."""

SPLITS = ("train", "val", "test")
"""Files that a folder's set of media is made of; single files may have other names."""

FORMATS = (".jsonl", ".csv")

MODALITIES: dict[Modality, str] = {
    "image": ".jpg .jpeg .png .webp .bmp .tif .tiff",
    "video": ".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg .gif .3gp .flv .ogv .wmv",
    "audio": ".wav .flac .ogg .opus .mp3 .aif .aiff .m4a .aac",
}
"""What a medium is, by the ending of its file."""

_MODALITY_OF = {ending: kind for kind, endings in MODALITIES.items() for ending in endings.split()}


@without_collection()
def media(path: Path) -> MediaSet:
    """Each medium of a manifest once, in order of first appearance over train, val and test.

    Args:
        path: a folder with some of train, val and test (.jsonl or .csv), or one such file of any
            name.

    Returns:
        The set; its name is the folder's, with "-" and the file's stem behind it if `path` is a
        file; its keys are the `media` texts as they stand in the lines.

    Raises:
        MissingFileError: there is no such path, or no split in the folder.
        MalformedFileError: a line or a file has another layout, or some lines have a prompt and
            others none; names the line.
    """
    path = path.absolute()
    folder = path if path.is_dir() else path.parent
    name = folder.resolve().name if path.is_dir() else f"{folder.resolve().name}-{path.stem}"
    items: dict[str, MediaItem] = {}
    files = _files_of(path)
    kind: Kind | None = None
    for file in files:
        for line in read_lines(file):
            found = _kind(line)
            kind = kind or found
            if found != kind:
                raise _other_kind(line, kind, files[0])
            if line.media not in items:
                items[line.media] = _item(line, folder)
    return MediaSet(name, tuple(items.values()), (TASK,), folder)


def task(root: Path) -> Task:
    """The task over a manifest's media.

    Args:
        root: the manifest's folder; every JSONL or CSV file in it is a split.

    Returns:
        A task of kind "qa", scored by "exact", if the first line of its first file has a prompt;
        else of kind "caption", scored by "caption".

    Raises:
        MissingFileError: the folder holds no manifest.
        MalformedFileError: the first file has another layout.
    """
    files = _split_files(root)
    kind = _kind(next(read_lines(next(iter(files.values())))))
    metric = "exact" if kind == "qa" else "caption"
    return Task(TASK, kind, metric, tuple(files), partial(examples, kind))


@without_collection()
def examples(kind: Kind, split: str, root: Path) -> list[Example]:
    """The lines of `<root>/<split>.jsonl` or `.csv`, in file order.

    Args:
        kind: "qa" if every line must have a prompt, "caption" if none may have one.
        split: stem of the file.
        root: the manifest's folder.

    Raises:
        UnknownSplitError: no such file; names the splits there are.
        MissingFileError: the folder holds no manifest.
        MalformedFileError: a line has another layout, is not of this kind, repeats an id or, in
            the split train, has no answer. Names the line.
    """
    files = _split_files(root)
    first = next(iter(files.values()))
    check_split(split, tuple(files), owner=f"the manifest {root}")
    found: list[Example] = []
    seen: set[str] = set()
    for line in read_lines(files[split]):
        if _kind(line) != kind:
            raise _other_kind(line, kind, first)
        if split == "train" and not line.answers:
            raise line.wrong("no answers: the training split needs at least one in every line")
        if line.id in seen:
            before = next(one.number for one in read_lines(line.file) if one.id == line.id)
            raise line.wrong(f"id {line.id!r} stands in line {before} already")
        seen.add(line.id)
        found.append(_example(line))
    return found


def _files_of(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in FORMATS:
            raise MalformedFileError(f"{path} does not end in {' or '.join(FORMATS)}")
        return [path]
    files = _split_files(path)
    chosen = [files[split] for split in SPLITS if split in files]
    if not chosen:
        raise MissingFileError(
            f"{path} holds none of train, val and test (.jsonl or .csv), only {', '.join(files)}: "
            "rename a file, or name one file instead of the folder"
        )
    return chosen


def _split_files(folder: Path) -> dict[str, Path]:
    """Split -> file, of all manifests in a folder; train, val and test first."""
    found = [path for path in sorted(folder.glob("*")) if path.suffix in FORMATS and path.is_file()]
    if not found:
        raise MissingFileError(
            f"{folder} holds no manifest: wanted train.jsonl, val.jsonl, test.jsonl (or .csv) with "
            'one line {"id": ..., "media": ..., "prompt": ..., "answers": [...]} per example'
        )
    found.sort(key=lambda path: SPLITS.index(path.stem) if path.stem in SPLITS else len(SPLITS))
    files: dict[str, Path] = {}
    for path in found:
        if path.stem in files:
            raise MalformedFileError(
                f"{folder} holds {files[path.stem].name} and {path.name}: remove one of them"
            )
        files[path.stem] = path
    return files


def _item(line: Line, folder: Path) -> MediaItem:
    media = line.media
    modality = _MODALITY_OF.get(media[media.rfind(".") :].lower())
    if modality is None:
        raise line.wrong(f"media {media!r} ends in none of the known {', '.join(_MODALITY_OF)}")
    return MediaItem(media, folder, media, modality)


def _kind(line: Line) -> Kind:
    """What all of a manifest is if this is the first line of its first file."""
    return "qa" if line.prompt else "caption"


def _other_kind(line: Line, kind: Kind, first: Path) -> MalformedFileError:
    mend = "keep questions and captions in folders of their own"
    if kind == "qa":
        return line.wrong(f"no prompt, but the first line of {first.name} has one: {mend}")
    return line.wrong(f"a prompt, but the first line of {first.name} has none: {mend}")


def _example(line: Line) -> Example:
    return Example(
        intern(line.media),  # most media are in several lines
        line.id,
        line.prompt,
        line.answers,
        references=line.answers,
        question_type=intern(line.question_type),
        answer_type=intern(line.answer_type),
    )
