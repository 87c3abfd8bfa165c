"""COCO, Flickr8k and Flickr30k in the splits and the JSON layout of Karpathy and Fei-Fei (2015)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from epalm.errors import UnknownSplitError
from epalm.tasks.readers.data_files import (
    JsonRecord,
    check_split,
    find_file,
    find_folder,
    with_unique_ids,
)
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

SPLIT_OF = {"train": "train", "restval": "train", "val": "val", "test": "test"}
"""The file's word -> our split. The official loaders, too, train on restval."""

SPLITS = ("train", "val", "test", "karpathy_train", "karpathy_val", "karpathy_test")
"""A name with "karpathy_" in front means the same as the short one."""

PUBLISHED = (
    "one of Karpathy's caption splits (caption_datasets.zip, deepimagesent page at Stanford)"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What tells one of the three sets from the others.

    Attributes:
        name: of the set of media; also the sub-folder that is looked into.
        photo_folders: where photos may lie below the data root or its sub-folder; COCO's stand in
            one folder more, named by each photo's "filepath".
        tasks: tasks over these photos, the default one first.
        photos: what the photos are and where they can be had.
    """

    name: str
    photo_folders: tuple[str, ...]
    tasks: tuple[str, ...]
    photos: str


COCO = Layout(
    "coco",
    ("", "images"),
    ("vqa2", "coco-caption", "okvqa"),
    "COCO's photos (2014, cocodataset.org)",
)
FLICKR8K = Layout(
    "flickr8k",
    ("images", "Images", "Flicker8k_Dataset"),
    ("flickr8k-caption",),
    "Flickr8k's photos (Hodosh et al. 2013)",
)
FLICKR30K = Layout(
    "flickr30k",
    ("images", "Images", "flickr30k_images"),
    ("flickr30k-caption",),
    "Flickr30k's photos (Young et al. 2014)",
)


@dataclass(frozen=True, slots=True)
class Photo:
    """One entry of the file.

    Attributes:
        key: file name, e.g. "COCO_val2014_000000391895.jpg".
        folder: "train2014" or "val2014" for COCO; empty for Flickr.
        split: train, val or test.
        record: the entry itself.
    """

    key: str
    folder: str
    split: str
    record: JsonRecord


def media(layout: Layout, root: Path) -> MediaSet:
    """All photos of the file, in its order.

    Args:
        layout: which set.
        root: data root; holds the file and the photos, or a sub-folder of the set's name does.

    Raises:
        MissingFileError: the file or a folder of photos is not there.
        MalformedFileError: the file has another layout, or names a photo twice.
    """
    file = _find(layout, root)
    folder_of: dict[str, Path] = {}
    items: dict[str, MediaItem] = {}
    for photo in read_photos(file):
        if photo.folder not in folder_of:
            places = folders_below(layout, root, photo.folder, file=file)
            folder_of[photo.folder] = find_folder(places, what=layout.photos)
        if photo.key in items:
            raise photo.record.wrong("filename", photo.key, "a photo that no other entry names")
        items[photo.key] = MediaItem(photo.key, folder_of[photo.folder], photo.key)
    return MediaSet(layout.name, tuple(items.values()), layout.tasks, root)


def caption_task(layout: Layout, root: Path) -> Task:
    """The captioning task over one set; no file is read yet, and `root` therefore not used."""
    del root
    name = f"{layout.name}-caption"
    return Task(name, "caption", "caption", SPLITS, partial(captions, layout))


def captions(layout: Layout, split: str, root: Path) -> list[Example]:
    """The examples of one split, in file order.

    Args:
        layout: which set.
        split: one of `SPLITS`.
        root: data root.

    Returns:
        train: one example per caption, its "sentid" the question_id. val and test: one per photo,
        its file name the question_id and all of its captions the references.

    Raises:
        UnknownSplitError: no such split, or the file at hand holds no photo of it.
        MissingFileError: the file is not there.
        MalformedFileError: the file has another layout.
    """
    check_split(split, SPLITS, owner=f"task {layout.name}-caption")
    file = _find(layout, root)
    photos = photos_of(split, file)
    if split.removeprefix("karpathy_") == "train":
        examples = [example for photo in photos for example in _one_per_caption(photo)]
    else:
        examples = [_one_per_photo(photo) for photo in photos]
    return with_unique_ids(examples, file=file)


def photos_of(split: str, file: Path) -> Iterator[Photo]:
    """The photos of one split of `SPLITS`, in file order; restval is part of train.

    Raises:
        UnknownSplitError: the file holds no photo of this split.
        MalformedFileError: the file has another layout.
    """
    wanted = split.removeprefix("karpathy_")
    held: set[str] = set()
    for photo in read_photos(file):
        held.add(photo.split)
        if photo.split == wanted:
            yield photo
    if wanted not in held:
        raise UnknownSplitError(
            f"{file} holds no photo of {split}, only of {', '.join(sorted(held)) or 'no split'}"
        )


def read_photos(file: Path) -> Iterator[Photo]:
    """The entries of a Karpathy file, in its order.

    Raises:
        MalformedFileError: the file has another layout; names the place.
    """
    for record in stream_member(file, "images"):
        split = record.text("split")
        if split not in SPLIT_OF:
            raise record.wrong("split", split, f"one of {', '.join(SPLIT_OF)}")
        yield Photo(record.file_name("filename"), record.word("filepath"), SPLIT_OF[split], record)


def find_coco_file(root: Path) -> Path:
    """Where COCO's Karpathy file lies.

    Raises:
        MissingFileError: it is not there.
    """
    return _find(COCO, root)


coco = partial(media, COCO)
flickr8k = partial(media, FLICKR8K)
flickr30k = partial(media, FLICKR30K)
coco_captions = partial(caption_task, COCO)
flickr8k_captions = partial(caption_task, FLICKR8K)
flickr30k_captions = partial(caption_task, FLICKR30K)


def folders_below(
    layout: Layout, root: Path, filepath: str = "", *, file: Path | None = None
) -> list[Path]:
    """Where photos of a set are looked for.

    Args:
        layout: which set.
        root: data root.
        filepath: of the photos, e.g. "train2014".
        file: the set's file; photos beside it are preferred.
    """
    bases = [file.parent] if file else []
    bases += [root, *(root / folder for folder in _folders(layout))]
    return [base / name / filepath for base in bases for name in layout.photo_folders]


def _folders(layout: Layout) -> tuple[str, ...]:
    return layout.name, layout.name.upper()


def _find(layout: Layout, root: Path) -> Path:
    name = f"dataset_{layout.name}.json"
    return find_file(name, root=root, folders=_folders(layout), published=PUBLISHED)


def _one_per_caption(photo: Photo) -> Iterator[Example]:
    for sentence in photo.record.records("sentences"):
        caption = (sentence.text("raw"),)
        yield Example(photo.key, sentence.identifier("sentid"), "", caption, caption)


def _one_per_photo(photo: Photo) -> Example:
    said = tuple(sentence.text("raw") for sentence in photo.record.records("sentences"))
    return Example(photo.key, photo.key, "", said, said)
