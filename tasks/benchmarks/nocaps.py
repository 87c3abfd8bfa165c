"""nocaps (Agrawal et al. 2019): captions of images from Open Images, for evaluation only.

{"images": [{"id": 0, "file_name": "0013ea2087020901.jpg", "domain": "in-domain", ...}, ...],
 "annotations": [{"image_id": 0, "caption": "A baby is standing.", ...}, ...]}
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from epalm.errors import MalformedFileError
from epalm.tasks.readers.data_files import (
    check_split,
    check_unique_ids,
    find_available,
    find_file,
    folder_finder,
)
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

FILES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}
"""Split -> file: 4,500 images with ten captions each, and 10,600 without, for submissions."""

SPLITS = tuple(FILES)

FOLDERS = ("nocaps", "nocaps/annotations", "annotations")
IMAGE_ROOTS = ("", "nocaps")
IMAGE_FOLDERS = ("images", "images/val", "images/test", "val", "validation", "test")

PUBLISHED = "a file of nocaps (nocaps.org, Download)"
IMAGES = "the images of nocaps (from Open Images: each entry's coco_url)"


@dataclass(frozen=True, slots=True)
class NocapsImage:
    """One entry of "images".

    Attributes:
        image_id: id of the image in captions and submissions.
        key: file name of the image.
        domain: "in-domain", "near-domain", "out-domain"; empty if the file does not specify it.
    """

    image_id: str
    key: str
    domain: str


def media(root: Path) -> MediaSet:
    """List the images of val and test in file order; a missing file is logged.

    Raises:
        MissingFileError: there is no annotation file, or no folder of images.
        MalformedFileError: a file has an unexpected structure.
    """
    files = find_available(lambda split: _find(split, root), SPLITS, owner="nocaps")
    keys = dict.fromkeys(image.key for file in files for image in _read_images(file))
    candidates = [root / parent / name for parent in IMAGE_ROOTS for name in IMAGE_FOLDERS]
    folder_of = folder_finder(candidates, what=IMAGES)
    items = tuple(MediaItem(key, folder_of(key), key) for key in keys)
    return MediaSet("nocaps", items, ("nocaps-caption",), root)


def task(root: Path) -> Task:
    """Return the task nocaps-caption; files are read by `examples` alone, so `root` is unused."""
    del root
    return Task("nocaps-caption", "caption", "caption", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """Read one example per image, in file order.

    The "id" of the image is the question_id, and its domain the question_type.

    Args:
        split: val or test; the images of test have no captions.
        root: data root.

    Raises:
        UnknownSplitError: there is no such split.
        MissingFileError: the file does not exist.
        MalformedFileError: the file has an unexpected structure, or an image of val has no caption.
    """
    check_split(split, SPLITS, owner="task nocaps-caption (evaluation only)")
    file = _find(split, root)
    captions = _read_captions(file) if split == "val" else {}
    results = [_example(image, captions.get(image.image_id, [])) for image in _read_images(file)]
    for example in results if split == "val" else ():
        if not example.references:
            raise MalformedFileError(f"{file} has no caption of image {example.question_id}")
    return check_unique_ids(results, file=file)


def _find(split: str, root: Path) -> Path:
    return find_file(FILES[split], root=root, folders=FOLDERS, published=PUBLISHED)


def _read_images(file: Path) -> Iterator[NocapsImage]:
    for record in stream_member(file, "images"):
        yield NocapsImage(
            record.identifier("id"),
            record.file_name("file_name"),
            record.optional_text("domain"),
        )


def _read_captions(file: Path) -> dict[str, list[str]]:
    """Map the id of each image to its captions."""
    captions: dict[str, list[str]] = {}
    for record in stream_member(file, "annotations"):
        captions.setdefault(record.identifier("image_id"), []).append(record.text("caption"))
    return captions


def _example(image: NocapsImage, captions: Sequence[str]) -> Example:
    texts = tuple(captions)
    return Example(image.key, image.image_id, "", texts, texts, question_type=image.domain)
