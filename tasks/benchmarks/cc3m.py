"""Conceptual Captions (Sharma et al. 2018) as it was downloaded: a table, tar files, or folders.

    cc3m/train.tsv                      caption <tab> the photo's file, relative to the table
    cc3m/train/00000.tar                or tar files for WebDataset
    cc3m/train/00000/000000012.jpg      or the same in folders, e.g. by img2dataset,
    cc3m/train/00000/000000012.txt      with the caption beside each photo

A photo has the same key in a tar file and in the folder that it would be extracted to.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError, MissingFileError
from epalm.tasks.readers.data_files import check_split, find_present
from epalm.tasks.readers.json_values import SURROGATE, shown
from epalm.tasks.readers.tar_shards import (
    CAPTION_ENDING,
    PHOTO_ENDINGS,
    TAR_ENDING,
    in_one_line,
    read_shard,
)
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")

FOLDERS = ("cc3m", "CC3M", "")

LAYOUT = (
    "wanted a table {split}.tsv with lines of caption, tab, file of the photo; or tar files "
    "{split}/00000.tar for WebDataset; or folders {split}/00000/ with 000000012.jpg and .txt. The "
    "captions are published "
    "as tables of URLs (ai.google.com/research/ConceptualCaptions); img2dataset downloads the "
    "photos (layouts: docs/data.md)"
)


class CaptionedImage(NamedTuple):
    """One photo and its caption.

    Attributes:
        name: the photo's key: its file, relative to the folder of the table or above the shards.
        caption: empty where there is none.
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
    items = {item.key: item for place in places for item in _items(place)}
    return MediaSet("cc3m", tuple(items.values()), ("cc3m-caption",), root)


def task(root: Path) -> Task:
    """The task cc3m-caption; no file is read yet, and `root` therefore not used."""
    del root
    return Task("cc3m-caption", "caption", "caption", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """One example per caption, in order of lines or files; photos without caption are left out.

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: it is not there, or no photo of it has a caption.
        MalformedFileError: a line has another layout, a tar file is damaged, or a text is not
            UTF-8.
    """
    check_split(split, SPLITS, owner="task cc3m-caption")
    place = _find(split, root)
    found, empty = [], 0
    for one in _captioned(place):
        if one.caption:
            found.append(Example(one.name, one.number, "", (one.caption,), (one.caption,)))
        else:
            empty += 1
    if not found:
        raise MissingFileError(
            f"{place}: none of its {empty} photos has a caption, wanted it in a text file of the "
            "same stem; img2dataset writes that with --caption_col"
        )
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


def _items(place: Path) -> Iterator[MediaItem]:
    folder = place.parent
    if place.is_file():
        yield from (MediaItem(name, folder, name) for _, _, name in _lines(place))
        return
    tars, photos = _shards(place)
    for tar in tars:
        for name, part, _ in read_shard(folder / tar):
            yield MediaItem(_unpacked(tar, name), folder, tar, part=part)
    yield from (MediaItem(photo, folder, photo) for photo in photos)


def _captioned(place: Path) -> Iterator[CaptionedImage]:
    folder = place.parent
    if place.is_file():
        yield from (
            CaptionedImage(name, caption, str(number)) for number, caption, name in _lines(place)
        )
        return
    tars, photos = _shards(place)
    for tar in tars:
        for name, _, caption in read_shard(folder / tar):
            yield CaptionedImage(_unpacked(tar, name), caption, _unpacked(tar, name))
    yield from (CaptionedImage(photo, _text_beside(folder / photo), photo) for photo in photos)


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
    if "\0" in name:
        raise MalformedFileError(f"{at}: {shown(name)} holds a NUL character")
    if "://" in name:
        raise MalformedFileError(
            f"{at}: {name} is a URL, wanted the file that was downloaded from there; "
            "e.g. img2dataset downloads them (docs/data.md)"
        )
    return name


def _shards(place: Path) -> tuple[list[str], list[str]]:
    """Tar files and photos below a folder, in order of their names; one of both lists is empty.

    Names begin with the folder's.
    """
    tars: list[str] = []
    photos: list[str] = []
    for folder, below, files in os.walk(place):
        below.sort()
        head = Path(folder).relative_to(place.parent).as_posix()
        for file in sorted(files):
            if SURROGATE.search(file) or SURROGATE.search(head):
                raise MalformedFileError(
                    f"{shown(f'{head}/{file}')}: the name is not UTF-8: rename it"
                )
            if file.endswith(TAR_ENDING):
                tars.append(f"{head}/{file}")
            elif file.lower().endswith(PHOTO_ENDINGS):
                photos.append(f"{head}/{file}")
    if not tars and not photos:
        raise MissingFileError(
            f"{place} holds neither tar files nor photos: {LAYOUT.format(split=place.name)}"
        )
    if tars and photos:
        raise MalformedFileError(
            f"{place} holds {len(tars)} tar files, e.g. {tars[0]}, and {len(photos)} photos "
            f"beside them, e.g. {photos[0]}: move the ones or the others away, so that no photo "
            "counts twice"
        )
    return tars, photos


def _unpacked(tar: str, name: str) -> str:
    """Where a member lies once the tar file is extracted to a folder of its name."""
    return f"{tar.removesuffix(TAR_ENDING)}/{name}"


def _text_beside(photo: Path) -> str:
    file = photo.with_suffix(CAPTION_ENDING)
    try:
        return in_one_line(file.read_bytes(), str(file))
    except FileNotFoundError:
        return ""
