"""GQA (Hudson and Manning 2019), balanced questions: the official files, or VL-T5's lists.

{"02930152": {"imageId": "2354786", "question": "Is the sky dark?", "answer": "yes",
              "types": {"structural": "verify", "semantic": "global", ...}, ...}, ...}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from epalm.tasks.readers.data_files import (
    check_split,
    find_file,
    find_present,
    folder_finder,
    with_unique_ids,
)
from epalm.tasks.readers.json_stream import stream_object
from epalm.tasks.readers.vlt5_lists import read_asked
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

UNANSWERED = "test"
"""A split for submission, without published answers; optional."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files that may hold a split; the first one is looked for first."""

    official: str
    vlt5: str = ""


FILES = {
    "train": Files("train_balanced_questions.json", "train.json"),
    "val": Files("val_balanced_questions.json", "valid.json"),
    "testdev": Files("testdev_balanced_questions.json", "testdev.json"),
    UNANSWERED: Files("test_balanced_questions.json"),
}

SPLITS = (*FILES, "valid")
"""valid means val, as in VL-T5's lists."""

FOLDERS = ("gqa", "GQA", "gqa/questions", "gqa/questions1.2", "questions", "questions1.2")
VLT5_FOLDERS = ("GQA", "gqa")
PHOTO_FOLDERS = ("", "gqa", "GQA", "VG", "gqa/VG", "GQA/VG")
PHOTO_NAMES = ("images", "VG_100K", "VG_100K_2")

PUBLISHED = "a file of GQA (Stanford, cs.stanford.edu/people/dorarad/gqa, Download: questions1.2)"
PHOTOS = "GQA's photos (the page's images.zip, or Visual Genome's VG_100K)"


def media(root: Path) -> MediaSet:
    """Each photo that a question is about once, in order of first appearance.

    Args:
        root: data root; it or one of its sub-folders holds the photos and the files of train, val,
            testdev and test; a note names those of the first three that are absent.

    Raises:
        MissingFileError: no file, or no folder of photos, is there.
        MalformedFileError: a file has another layout.
    """
    files = find_present(
        lambda split: _find(split, root), tuple(FILES), owner="gqa", optional=(UNANSWERED,)
    )
    keys = dict.fromkeys(example.key for file in files for example in _read(file))
    places = [root / base / name for base in PHOTO_FOLDERS for name in PHOTO_NAMES]
    folder_of = folder_finder(places, what=PHOTOS)
    items = tuple(MediaItem(key, folder_of(key), key) for key in keys)
    return MediaSet("gqa", items, ("gqa",), root)


def task(root: Path) -> Task:
    """The task gqa; no file is read yet, and `root` therefore not used."""
    del root
    return Task("gqa", "qa", "label", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """The questions of one split, in file order.

    Args:
        split: one of `SPLITS`.
        root: data root; see `media`. Where the official file is absent, VL-T5's list serves.

    Returns:
        One answer each, none in the split test; question_type is the structure ("query",
        "verify", ...) and answer_type what is asked about ("obj", "attr", ...), in official files.

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: the file is not there.
        MalformedFileError: it has another layout.
    """
    check_split(split, SPLITS, owner="task gqa")
    full = "val" if split == "valid" else split
    file = _find(full, root)
    return with_unique_ids(list(_read(file)), file=file)


def _find(split: str, root: Path) -> Path:
    files = FILES[split]
    instead = [f"{folder}/{files.vlt5}" for folder in VLT5_FOLDERS if files.vlt5]
    return find_file(
        files.official, root=root, folders=FOLDERS, published=PUBLISHED, instead=instead
    )


def _read(file: Path) -> Iterator[Example]:
    if file.name in {files.vlt5 for files in FILES.values()}:
        return _listed(file)
    return _official(file)


def _official(file: Path) -> Iterator[Example]:
    without = file.name == FILES[UNANSWERED].official
    for question_id, record in stream_object(file):
        answer = () if without else (intern(record.text("answer")),)
        types = record.child("types") if record.has("types") else None
        yield Example(
            key=_photo_name(record.identifier("imageId")),
            question_id=question_id,
            prompt=intern(record.text("question")),
            answers=answer,
            references=answer,
            question_type=intern(types.word("structural")) if types else "",
            answer_type=intern(types.word("semantic")) if types else "",
        )


def _listed(file: Path) -> Iterator[Example]:
    for asked in read_asked(file):
        answers = tuple(asked.label)
        if not answers:
            raise asked.record.wrong("label", {}, "an answer")
        weights = tuple(asked.label.values())
        key = _photo_name(asked.photo)
        yield Example(key, asked.question_id, asked.prompt, answers, answers, weights)


def _photo_name(photo: str) -> str:
    return intern(f"{photo}.jpg")
