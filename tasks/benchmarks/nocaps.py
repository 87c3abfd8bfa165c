"""nocaps (Agrawal et al. 2019): captions of Open Images' photos, for evaluation only.

{"images": [{"id": 0, "file_name": "0013ea2087020901.jpg", "domain": "in-domain", ...}, ...],
 "annotations": [{"image_id": 0, "caption": "A baby is standing.", ...}, ...]}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from epalm.errors import MalformedFileError
from epalm.tasks.readers.data_files import (
    check_split,
    find_file,
    find_present,
    folder_finder,
    with_unique_ids,
)
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

FILES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}
"""Split -> file; 4,500 photos with ten captions each, and 10,600 without, for submission."""

SPLITS = tuple(FILES)

FOLDERS = ("nocaps", "nocaps/annotations", "annotations")
PHOTO_FOLDERS = ("", "nocaps")
PHOTO_NAMES = ("images", "images/val", "images/test", "val", "validation", "test")

PUBLISHED = "a file of nocaps (nocaps.org, Download)"
PHOTOS = "nocaps's photos (from Open Images: each entry's coco_url)"


@dataclass(frozen=True, slots=True)
class Photo:
    """One entry of "images".

    Attributes:
        image_id: the number that captions and submissions name.
        key: its file name.
        domain: "in-domain", "near-domain", "out-domain", or empty where the file does not say.
    """

    image_id: str
    key: str
    domain: str


def media(root: Path) -> MediaSet:
    """The photos of val and test in file order; a note names the file that is absent.

    Raises:
        MissingFileError: no file, or no folder of photos, is there.
        MalformedFileError: a file has another layout.
    """
    files = find_present(lambda split: _find(split, root), SPLITS, owner="nocaps")
    keys = dict.fromkeys(photo.key for file in files for photo in _photos(file))
    places = [root / base / name for base in PHOTO_FOLDERS for name in PHOTO_NAMES]
    folder_of = folder_finder(places, what=PHOTOS)
    items = tuple(MediaItem(key, folder_of(key), key) for key in keys)
    return MediaSet("nocaps", items, ("nocaps-caption",), root)


def task(root: Path) -> Task:
    """The task nocaps-caption; no file is read yet, and `root` therefore not used."""
    del root
    return Task("nocaps-caption", "caption", "caption", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """One example per photo, in file order; its "id" is the question_id, its domain the group.

    Args:
        split: val or test; the photos of test have no captions.
        root: data root.

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: the file is not there.
        MalformedFileError: it has another layout, or a photo of val has no caption.
    """
    check_split(split, SPLITS, owner="task nocaps-caption, which is for evaluation,")
    file = _find(split, root)
    said = _captions(file) if split == "val" else {}
    found = [_example(photo, said.get(photo.image_id, ())) for photo in _photos(file)]
    for example in found if split == "val" else ():
        if not example.references:
            raise MalformedFileError(f"{file} has no caption of photo {example.question_id}")
    return with_unique_ids(found, file=file)


def _find(split: str, root: Path) -> Path:
    return find_file(FILES[split], root=root, folders=FOLDERS, published=PUBLISHED)


def _photos(file: Path) -> Iterator[Photo]:
    for record in stream_member(file, "images"):
        yield Photo(record.identifier("id"), record.file_name("file_name"), record.word("domain"))


def _captions(file: Path) -> dict[str, list[str]]:
    """Photo's id -> its captions."""
    said: dict[str, list[str]] = {}
    for record in stream_member(file, "annotations"):
        said.setdefault(record.identifier("image_id"), []).append(record.text("caption"))
    return said


def _example(photo: Photo, captions: list[str] | tuple[()]) -> Example:
    said = tuple(captions)
    return Example(photo.key, photo.image_id, "", said, said, question_type=photo.domain)
