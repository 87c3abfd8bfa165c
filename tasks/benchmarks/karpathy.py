"""COCO, Flickr8k and Flickr30k in the splits and the JSON format of Karpathy and Fei-Fei (2015)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from epalm.errors import UnknownSplitError
from epalm.tasks.readers.data_files import (
    check_split,
    check_unique_ids,
    find_file,
    find_folder,
)
from epalm.tasks.readers.json_record import JsonRecord
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""Split in the file -> our split. The official implementation trains on restval as well."""

SPLITS = ("train", "val", "test", "karpathy_train", "karpathy_val", "karpathy_test")
"""The prefix "karpathy_" is optional."""

PUBLISHED = (
    "one of Karpathy's caption splits (caption_datasets.zip, deepimagesent page at Stanford)"
)


@dataclass(frozen=True, slots=True)
class KarpathyDataset:
    """One of the three datasets.

    Attributes:
        name: name of the dataset, and of its sub-folder of the data root.
        image_folders: folders of images, relative to the data root or to the sub-folder. COCO's
            images are one level deeper, in the folder given by each image's "filepath".
        tasks: tasks on these images, the default one first.
        images: description of the images and their source.
    """

    name: str
    image_folders: tuple[str, ...]
    tasks: tuple[str, ...]
    images: str


COCO = KarpathyDataset(
    "coco",
    ("", "images"),
    ("vqa2", "coco-caption", "okvqa"),
    "COCO images (2014, cocodataset.org)",
)
FLICKR8K = KarpathyDataset(
    "flickr8k",
    ("images", "Images", "Flicker8k_Dataset"),
    ("flickr8k-caption",),
    "Flickr8k images (Hodosh et al. 2013)",
)
FLICKR30K = KarpathyDataset(
    "flickr30k",
    ("images", "Images", "flickr30k_images"),
    ("flickr30k-caption",),
    "Flickr30k images (Young et al. 2014)",
)


@dataclass(frozen=True, slots=True)
class KarpathyImage:
    """One entry of the file.

    Attributes:
        key: file name, e.g. "COCO_val2014_000000391895.jpg".
        folder: "train2014" or "val2014" for COCO; empty for Flickr.
        split: "train", "val" or "test".
        record: the JSON object of the image.
    """

    key: str
    folder: str
    split: str
    record: JsonRecord


def media(dataset: KarpathyDataset, root: Path) -> MediaSet:
    """List all images of the file, in file order.

    Args:
        dataset: one of `COCO`, `FLICKR8K` and `FLICKR30K`.
        root: data root; it or its sub-folder of the dataset contains the file and the images.

    Raises:
        MissingFileError: the file or a folder of images does not exist.
        MalformedFileError: the file has an unexpected structure, or lists an image twice.
    """
    file = _find(dataset, root)
    folder_of: dict[str, Path] = {}
    items: dict[str, MediaItem] = {}
    for image in read_images(file):
        if image.folder not in folder_of:
            candidates = image_folder_candidates(dataset, root, image.folder, file=file)
            folder_of[image.folder] = find_folder(candidates, what=dataset.images)
        if image.key in items:
            raise image.record.error("filename", image.key, "an image that is listed once")
        items[image.key] = MediaItem(image.key, folder_of[image.folder], image.key)
    return MediaSet(dataset.name, tuple(items.values()), dataset.tasks, root)


def caption_task(dataset: KarpathyDataset, root: Path) -> Task:
    """Return the captioning task; files are read by `captions` alone, so `root` is unused."""
    del root
    name = f"{dataset.name}-caption"
    return Task(name, "caption", "caption", SPLITS, partial(captions, dataset))


def captions(dataset: KarpathyDataset, split: str, root: Path) -> list[Example]:
    """Read the examples of one split, in file order.

    Args:
        dataset: one of `COCO`, `FLICKR8K` and `FLICKR30K`.
        split: one of `SPLITS`.
        root: data root.

    Returns:
        In train, one example per caption with its "sentid" as question_id. In val and test, one
        example per image with its file name as question_id and all its captions as references.

    Raises:
        UnknownSplitError: there is no such split, or the file has no image of it.
        MissingFileError: the file does not exist.
        MalformedFileError: the file has an unexpected structure.
    """
    check_split(split, SPLITS, owner=f"task {dataset.name}-caption")
    file = _find(dataset, root)
    images = images_of_split(split, file)
    if split.removeprefix("karpathy_") == "train":
        examples = [example for image in images for example in _one_per_caption(image)]
    else:
        examples = [_one_per_image(image) for image in images]
    return check_unique_ids(examples, file=file)


def images_of_split(split: str, file: Path) -> Iterator[KarpathyImage]:
    """Yield the images of one split of `SPLITS`, in file order; restval is part of train.

    Raises:
        UnknownSplitError: the file has no image of this split.
        MalformedFileError: the file has an unexpected structure.
    """
    short_name = split.removeprefix("karpathy_")
    splits: set[str] = set()
    for image in read_images(file):
        splits.add(image.split)
        if image.split == short_name:
            yield image
    if short_name not in splits:
        raise UnknownSplitError(
            f"{file} has no image of {split}, only of {', '.join(sorted(splits)) or 'no split'}"
        )


def read_images(file: Path) -> Iterator[KarpathyImage]:
    """Yield the images of a Karpathy file, in file order.

    Raises:
        MalformedFileError: the file has an unexpected structure; names the position.
    """
    for record in stream_member(file, "images"):
        split = record.text("split")
        if split not in SPLIT_OF:
            raise record.error("split", split, f"one of {', '.join(SPLIT_OF)}")
        yield KarpathyImage(
            record.file_name("filename"),
            record.optional_text("filepath"),
            SPLIT_OF[split],
            record,
        )


def find_coco_file(root: Path) -> Path:
    """Find COCO's Karpathy file.

    Raises:
        MissingFileError: the file does not exist.
    """
    return _find(COCO, root)


coco = partial(media, COCO)
flickr8k = partial(media, FLICKR8K)
flickr30k = partial(media, FLICKR30K)
coco_captions = partial(caption_task, COCO)
flickr8k_captions = partial(caption_task, FLICKR8K)
flickr30k_captions = partial(caption_task, FLICKR30K)


def image_folder_candidates(
    dataset: KarpathyDataset, root: Path, filepath: str = "", *, file: Path | None = None
) -> list[Path]:
    """List the folders in which to search for the images of a dataset.

    Args:
        dataset: one of `COCO`, `FLICKR8K` and `FLICKR30K`.
        root: data root.
        filepath: the "filepath" of the images, e.g. "train2014".
        file: the dataset's file; its folder is searched first.
    """
    parents = [file.parent] if file else []
    parents += [root, *(root / folder for folder in _folders(dataset))]
    return [parent / name / filepath for parent in parents for name in dataset.image_folders]


def _folders(dataset: KarpathyDataset) -> tuple[str, ...]:
    return dataset.name, dataset.name.upper()


def _find(dataset: KarpathyDataset, root: Path) -> Path:
    name = f"dataset_{dataset.name}.json"
    return find_file(name, root=root, folders=_folders(dataset), published=PUBLISHED)


def _one_per_caption(image: KarpathyImage) -> Iterator[Example]:
    for sentence in image.record.records("sentences"):
        caption = (sentence.text("raw"),)
        yield Example(image.key, sentence.identifier("sentid"), "", caption, caption)


def _one_per_image(image: KarpathyImage) -> Example:
    texts = tuple(sentence.text("raw") for sentence in image.record.records("sentences"))
    return Example(image.key, image.key, "", texts, texts)
