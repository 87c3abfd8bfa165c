"""Conceptual Captions (Sharma et al. 2018) as it was downloaded: a table, or extracted shards.

    cc3m/train.tsv                      caption <tab> the photo's file, relative to the table
    cc3m/train/00000/000000012.jpg      or img2dataset's shards, whose tar files are extracted,
    cc3m/train/00000/000000012.txt      with the caption beside each photo

Tar files are not read as they are: encoding opens every photo by its path, in processes that it can
end one by one.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError, MissingFileError
from epalm.tasks.files import check_split, find_present
from epalm.tasks.records import Example, MediaItem, MediaSet, Task

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")

FOLDERS = ("cc3m", "CC3M", "")

PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
CAPTION_ENDING = ".txt"

LAYOUT = (
    "wanted a table {split}.tsv with lines of caption, tab, file of the photo, or img2dataset's "
    "extracted shards {split}/00000/000000012.jpg and .txt. The captions are published as tables "
    "of URLs (ai.google.com/research/ConceptualCaptions); img2dataset downloads the photos "
    "(layouts: docs/data.md)"
)


class Captioned(NamedTuple):
    """One photo of a table or a shard.

    Attributes:
        name: of the photo's file, relative to the folder of the table or above the shards.
        caption: empty where none was published.
        number: of the line, or the name once more.
    """

    name: str
    caption: str
    number: str


def media(root: Path) -> MediaSet:
    """Each photo once, those of train before those of val; a note names the one that is absent.

    Raises:
        MissingFileError: neither split is there.
        MalformedFileError: a line of a table has another layout.
    """
    places = find_present(lambda split: _find(split, root), SPLITS, owner="cc3m")
    items = {
        name: MediaItem(name, place.parent, name) for place in places for name in _names(place)
    }
    return MediaSet("cc3m", tuple(items.values()), ("cc3m-caption",), root)


def task(root: Path) -> Task:
    """The task cc3m-caption; no file is read yet, and `root` therefore not used."""
    del root
    return Task("cc3m-caption", "caption", "caption", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """One example per caption, in order of lines or files; photos without caption are left out.

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: it is not there, or a photo of a shard has no text file beside it.
        MalformedFileError: a line has another layout, or a text is not UTF-8.
    """
    check_split(split, SPLITS, owner="task cc3m-caption")
    place = _find(split, root)
    found, empty = [], 0
    for one in _captioned(place):
        if one.caption:
            found.append(Example(one.name, one.number, "", (one.caption,), (one.caption,)))
        else:
            empty += 1
    if empty:
        logger.warning("%s: %d photos without caption left out", place, empty)
    return found


def _find(split: str, root: Path) -> Path:
    """The table or the folder of a split."""
    for base in FOLDERS:
        if (table := root / base / f"{split}.tsv").is_file():
            return table
        if (shards := root / base / split).is_dir():
            return shards
    bases = ", ".join(str(root / base) for base in FOLDERS)
    raise MissingFileError(
        f"{split} of Conceptual Captions was not found in any of {bases}: "
        + LAYOUT.format(split=split)
    )


def _names(place: Path) -> Iterator[str]:
    if place.is_dir():
        return _shard_names(place)
    return (name for _, _, name in _lines(place))


def _captioned(place: Path) -> Iterator[Captioned]:
    if place.is_dir():
        for name in _shard_names(place):
            yield Captioned(name, _text_beside(place.parent / name), name)
    else:
        for number, caption, name in _lines(place):
            yield Captioned(name, caption, str(number))


def _lines(table: Path) -> Iterator[tuple[int, str, str]]:
    """Number, caption and file of each line; blank lines are passed over."""
    try:
        with table.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    caption, _, name = line.rstrip("\r\n").rpartition("\t")
                    yield number, caption.strip(), _checked(name, table, number, line)
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{table} is not UTF-8: {error}") from error


def _checked(name: str, table: Path, number: int, line: str) -> str:
    at = f"{table}, line {number}"
    if "\t" not in line or not name.strip():
        raise MalformedFileError(f"{at}: wanted caption, tab, file of the photo")
    if "://" in name:
        raise MalformedFileError(
            f"{at}: {name} is a URL, wanted the file that was downloaded from there; "
            "e.g. img2dataset downloads them (docs/data.md)"
        )
    return name.strip()


def _shard_names(place: Path) -> Iterator[str]:
    """Photos below a folder in order of their names, which begin with the folder's."""
    found, tars = 0, 0
    for folder, below, files in os.walk(place):
        below.sort()
        head = Path(folder).relative_to(place.parent).as_posix()
        for file in sorted(files):
            tars += file.endswith(".tar")
            if file.lower().endswith(PHOTO_ENDINGS):
                found += 1
                yield f"{head}/{file}"
    if not found:
        packed = f"only {tars} tar files" if tars else "no photo"
        raise MissingFileError(
            f"{place} holds {packed}: extract each tar file into a folder of its name, e.g. with "
            f"`cd {place} && for f in *.tar; do mkdir ${{f%.tar}} && tar -xf $f -C ${{f%.tar}}; "
            "done`; " + LAYOUT.format(split=place.name)
        )


def _text_beside(photo: Path) -> str:
    file = photo.with_suffix(CAPTION_ENDING)
    try:
        return " ".join(file.read_text(encoding="utf-8-sig").split())
    except FileNotFoundError as error:
        raise MissingFileError(
            f"{file} was not found: wanted the caption of {photo.name} in it; img2dataset writes "
            "it with --caption_col"
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error
