"""Conceptual Captions (Sharma et al. 2018) as a table, as tar files, or as folders of images.

    cc3m/train.tsv                      caption <tab> image file, relative to the table
    cc3m/train/00000.tar                or tar files in the WebDataset layout
    cc3m/train/00000/000000012.jpg      or the same in folders, as img2dataset writes them,
    cc3m/train/00000/000000012.txt      with the caption next to each image

An image has the same key in a tar file and in the folder extracted from it.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError, MissingFileError
from epalm.tasks.readers.data_files import check_split, find_available
from epalm.tasks.readers.folder_check import refuse_unreadable
from epalm.tasks.readers.tar_shards import (
    CAPTION_EXTENSION,
    IMAGE_EXTENSIONS,
    TAR_EXTENSION,
    decode_caption,
    read_shard,
)
from epalm.tasks.types import Example, MediaItem, MediaSet, Task
from epalm.untrusted.json_values import SURROGATE
from epalm.untrusted.quoted_values import quote

logger = logging.getLogger(__name__)

SPLITS = ("train", "val")

FOLDERS = ("cc3m", "CC3M", "")

LAYOUT = (
    "expected a table {split}.tsv with lines of caption, tab, image file; or tar files "
    "{split}/00000.tar in the WebDataset layout; or folders {split}/00000/ with 000000012.jpg and "
    ".txt. The captions are published as tables of URLs "
    "(ai.google.com/research/ConceptualCaptions); img2dataset downloads the images "
    "(see docs/reference/data.md)"
)


class CaptionedImage(NamedTuple):
    """One image and its caption.

    Attributes:
        key: key of the image: its path relative to the folder of the table or of the shards.
        caption: the caption; empty if there is none.
        question_id: the line number in a table, else the key.
    """

    key: str
    caption: str
    question_id: str


def media(root: Path) -> MediaSet:
    """List each image once, train before val; a missing split is logged.

    Raises:
        MissingFileError: neither split exists.
        MalformedFileError: a line of a table is malformed.
    """
    sources = find_available(lambda split: _find(split, root), SPLITS, owner="cc3m")
    items = {item.key: item for source in sources for item in _items(source)}
    return MediaSet("cc3m", tuple(items.values()), ("cc3m-caption",), root)


def task(root: Path) -> Task:
    """Return the task cc3m-caption; files are read by `examples` alone, so `root` is unused."""
    del root
    return Task("cc3m-caption", "caption", "caption", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """Read one example per caption, in file order; images without a caption are left out.

    Raises:
        UnknownSplitError: there is no such split.
        MissingFileError: the split does not exist, or none of its images has a caption.
        MalformedFileError: a line is malformed, a tar file is damaged, or a caption is not UTF-8.
    """
    check_split(split, SPLITS, owner="task cc3m-caption")
    source = _find(split, root)
    results, empty = list[Example](), 0
    for key, caption, question_id in _captioned(source):
        if caption:
            results.append(Example(key, question_id, "", (caption,), (caption,)))
        else:
            empty += 1
    if not results:
        raise MissingFileError(
            f"{source}: none of its {empty} images has a caption, expected a text file of the same "
            "stem; img2dataset writes it with --caption_col"
        )
    if empty:
        logger.warning("%s: %d images without a caption left out", source, empty)
    return results


def _find(split: str, root: Path) -> Path:
    """Find the table or the folder of a split."""
    for folder in FOLDERS:
        if (table := root / folder / f"{split}.tsv").is_file():
            return table
        if (shards := root / folder / split).is_dir():
            return shards
    folders = ", ".join(str(root / folder) for folder in FOLDERS)
    raise MissingFileError(
        f"{split} of Conceptual Captions was not found in any of {folders}: "
        + LAYOUT.format(split=split)
    )


def _items(source: Path) -> Iterator[MediaItem]:
    folder = source.parent
    if source.is_file():
        yield from (MediaItem(name, folder, name) for _, _, name in _read_table(source))
        return
    tars, images = _shards(source)
    for tar in tars:
        for name, part, _ in read_shard(folder / tar):
            yield MediaItem(_extracted(tar, name), folder, tar, part=part)
    yield from (MediaItem(image, folder, image) for image in images)


def _captioned(source: Path) -> Iterator[CaptionedImage]:
    folder = source.parent
    if source.is_file():
        for number, caption, name in _read_table(source):
            yield CaptionedImage(name, caption, str(number))
        return
    tars, images = _shards(source)
    for tar in tars:
        for name, _, caption in read_shard(folder / tar):
            yield CaptionedImage(_extracted(tar, name), caption, _extracted(tar, name))
    yield from (CaptionedImage(image, _read_caption(folder / image), image) for image in images)


def _read_table(table: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, caption and image file of each line; blank lines are skipped."""
    try:
        with table.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    caption, _, name = line.rstrip("\r\n").rpartition("\t")
                    yield number, caption.strip(), _checked_name(name, table, number, line)
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{table} is not UTF-8: {error}") from error


def _checked_name(name: str, table: Path, number: int, line: str) -> str:
    where = f"{table}, line {number}"
    if "\t" not in line or not name.strip():
        raise MalformedFileError(f"{where}: expected caption, tab, image file")
    if "\0" in name:
        raise MalformedFileError(f"{where}: {quote(name)} contains a NUL character")
    if "://" in name:
        raise MalformedFileError(
            f"{where}: {name} is a URL, expected a downloaded file; img2dataset downloads "
            "the images (see docs/reference/data.md)"
        )
    return name


def _shards(source: Path) -> tuple[list[str], list[str]]:
    """List the tar files and the images below a folder, sorted; one of the lists is empty.

    Paths begin with the name of the folder.
    """
    tars: list[str] = []
    images: list[str] = []
    for folder, subfolders, files in os.walk(source, onerror=refuse_unreadable):
        subfolders.sort()
        prefix = Path(folder).relative_to(source.parent).as_posix()
        for file in sorted(files):
            if SURROGATE.search(file) or SURROGATE.search(prefix):
                raise MalformedFileError(
                    f"{quote(f'{prefix}/{file}')}: the name is not UTF-8: rename the file"
                )
            if file.endswith(TAR_EXTENSION):
                tars.append(f"{prefix}/{file}")
            elif file.lower().endswith(IMAGE_EXTENSIONS):
                images.append(f"{prefix}/{file}")
    if not tars and not images:
        raise MissingFileError(
            f"{source} contains neither tar files nor images: {LAYOUT.format(split=source.name)}"
        )
    if tars and images:
        raise MalformedFileError(
            f"{source} contains {len(tars)} tar files, e.g. {tars[0]}, and {len(images)} images, "
            f"e.g. {images[0]}: remove one or the other, so that no image is counted twice"
        )
    return tars, images


def _extracted(tar: str, name: str) -> str:
    """Path of a tar member if the tar file is extracted to a folder of its name."""
    return f"{tar.removesuffix(TAR_EXTENSION)}/{name}"


def _read_caption(image: Path) -> str:
    file = image.with_suffix(CAPTION_EXTENSION)
    try:
        return decode_caption(file.read_bytes(), str(file))
    except FileNotFoundError:
        return ""
