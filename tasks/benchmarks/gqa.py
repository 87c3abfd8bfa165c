"""The balanced questions of GQA (Hudson and Manning 2019): official files or VL-T5's lists.

{"02930152": {"imageId": "2354786", "question": "Is the sky dark?", "answer": "yes",
              "types": {"structural": "verify", "semantic": "global", ...}, ...}, ...}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sys import intern

from epalm.tasks.readers.data_files import (
    check_split,
    check_unique_ids,
    find_available,
    find_file,
    folder_finder,
)
from epalm.tasks.readers.json_stream import stream_object
from epalm.tasks.readers.vlt5_lists import read_vlt5_questions
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

UNANSWERED = "test"
"""A split for submissions, without published answers; its file is optional."""


@dataclass(frozen=True, slots=True)
class Files:
    """The alternative files of a split, in order of preference."""

    official: str
    vlt5: str = ""


FILES = {
    "train": Files("train_balanced_questions.json", "train.json"),
    "val": Files("val_balanced_questions.json", "valid.json"),
    "testdev": Files("testdev_balanced_questions.json", "testdev.json"),
    UNANSWERED: Files("test_balanced_questions.json"),
}

SPLITS = (*FILES, "valid")
"""`valid` is VL-T5's name for `val`."""

FOLDERS = ("gqa", "GQA", "gqa/questions", "gqa/questions1.2", "questions", "questions1.2")
VLT5_FOLDERS = ("GQA", "gqa")
IMAGE_ROOTS = ("", "gqa", "GQA", "VG", "gqa/VG", "GQA/VG")
IMAGE_FOLDERS = ("images", "VG_100K", "VG_100K_2")

PUBLISHED = "a file of GQA (Stanford, cs.stanford.edu/people/dorarad/gqa, Download: questions1.2)"
IMAGES = "GQA's images (images.zip of the same page, or Visual Genome's VG_100K)"


def media(root: Path) -> MediaSet:
    """List each image that a question refers to once, in order of first appearance.

    Args:
        root: data root; it or one of its sub-folders contains the images and the files of train,
            val, testdev and test. Missing files are logged, except that of test.

    Raises:
        MissingFileError: there is no question file, or no folder of images.
        MalformedFileError: a file has an unexpected structure.
    """
    files = find_available(
        lambda split: _find(split, root), tuple(FILES), owner="gqa", optional=(UNANSWERED,)
    )
    keys = dict.fromkeys(example.key for file in files for example in _read(file))
    candidates = [root / parent / name for parent in IMAGE_ROOTS for name in IMAGE_FOLDERS]
    folder_of = folder_finder(candidates, what=IMAGES)
    items = tuple(MediaItem(key, folder_of(key), key) for key in keys)
    return MediaSet("gqa", items, ("gqa",), root)


def task(root: Path) -> Task:
    """Return the task gqa; files are read by `examples` alone, so `root` is unused."""
    del root
    return Task("gqa", "qa", "label", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """Read the questions of one split, in file order.

    Args:
        split: one of `SPLITS`.
        root: data root. If the official file is missing, VL-T5's list is read.

    Returns:
        One answer per question, none in the split test. In official files, question_type is the
        structure ("query", "verify", ...) and answer_type the subject ("obj", "attr", ...).

    Raises:
        UnknownSplitError: there is no such split.
        MissingFileError: the file does not exist.
        MalformedFileError: the file has an unexpected structure.
    """
    check_split(split, SPLITS, owner="task gqa")
    file = _find("val" if split == "valid" else split, root)
    return check_unique_ids(list(_read(file)), file=file)


def _find(split: str, root: Path) -> Path:
    files = FILES[split]
    instead = [f"{folder}/{files.vlt5}" for folder in VLT5_FOLDERS if files.vlt5]
    return find_file(
        files.official, root=root, folders=FOLDERS, published=PUBLISHED, instead=instead
    )


def _read(file: Path) -> Iterator[Example]:
    if file.name in {files.vlt5 for files in FILES.values()}:
        return _read_vlt5(file)
    return _read_official(file)


def _read_official(file: Path) -> Iterator[Example]:
    is_unanswered = file.name == FILES[UNANSWERED].official
    for question_id, record in stream_object(file):
        answer = () if is_unanswered else (intern(record.text("answer")),)
        types = record.record("types") if record.has("types") else None
        yield Example(
            key=_image_name(record.identifier("imageId")),
            question_id=question_id,
            prompt=intern(record.text("question")),
            answers=answer,
            references=answer,
            question_type=intern(types.optional_text("structural")) if types else "",
            answer_type=intern(types.optional_text("semantic")) if types else "",
        )


def _read_vlt5(file: Path) -> Iterator[Example]:
    for question in read_vlt5_questions(file):
        answers = tuple(question.label)
        if not answers:
            raise question.record.error("label", {}, "an answer")
        weights = tuple(question.label.values())
        key = _image_name(question.image_id)
        yield Example(key, question.question_id, question.prompt, answers, answers, weights)


def _image_name(image_id: str) -> str:
    return intern(f"{image_id}.jpg")
