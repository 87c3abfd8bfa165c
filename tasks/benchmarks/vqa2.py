"""VQA v2 over COCO's photos: the official question and annotation files, or VL-T5's lists.

The splits karpathy_* put each question where Karpathy's caption splits put its photo, so that no
photo of the test split is seen in training; standard_* are the official training and validation
files as they are. test2015 and test-dev2015 have no published answers: they are for submission.
"""

from functools import partial
from pathlib import Path
from sys import intern

from epalm.tasks.benchmarks.karpathy import COCO, Photo, find_coco_file, folders_below, photos_of
from epalm.tasks.readers.data_files import check_split, find_folder, find_present, with_unique_ids
from epalm.tasks.readers.vlt5_lists import Vlt5Question, read_asked
from epalm.tasks.readers.vqa_format import (
    HumanAnswers,
    VqaFiles,
    answered,
    read_answered,
    read_questions,
    read_said,
)
from epalm.tasks.types import Example, MediaItem, MediaSet, Task

TEST_PARTS = ("test2015", "test-dev2015")

SPLITS = (
    "karpathy_train",
    "karpathy_val",
    "karpathy_test",
    "standard_train",
    "standard_val",
    "train",
    "val",
    "test",
    *TEST_PARTS,
)
"""train, val and test mean the karpathy_ splits."""

STANDARD_PARTS = {"standard_train": "train2014", "standard_val": "val2014"}
PARTS = tuple(STANDARD_PARTS.values())

FILES = VqaFiles(
    questions="v2_OpenEnded_mscoco_{part}_questions.json",
    annotations="v2_mscoco_{part}_annotations.json",
    folders=("vqa2", "vqa", "coco", "COCO", "coco/vqa2", "coco/vqa", "COCO/vqa2", "COCO/vqa"),
    published='a file of VQA v2 (visualqa.org, Download, "balanced real images")',
)

VLT5_FILES = {
    "karpathy_train": "karpathy_train.json",
    "karpathy_val": "karpathy_val.json",
    "karpathy_test": "karpathy_test.json",
    "standard_train": "train_standard.json",
    "standard_val": "val_standard.json",
}
VLT5_FOLDERS = ("vqa", "vqa2", "coco/vqa", "coco/vqa2", "COCO/vqa", "COCO/vqa2")

FIRST_PART = STANDARD_PARTS | {
    "karpathy_train": "train2014",
    "karpathy_val": "val2014",
    "karpathy_test": "val2014",
}
"""Split -> the part whose official question file it begins with."""

TEST_PHOTOS = "test2015"
"""The part of COCO that all test questions are about."""


def task(root: Path) -> Task:
    """The task vqa2; no file is read yet, and `root` therefore not used."""
    del root
    return Task("vqa2", "qa", "vqa", SPLITS, examples, "karpathy_train", "karpathy_val")


def submission_photos(root: Path) -> MediaSet:
    """The photos that the test questions are about, each once, in order of first appearance.

    Raises:
        MissingFileError: no question file of the tests, or no folder test2015, is there.
        MalformedFileError: a file has another layout.
    """
    find, part = partial(_test_file, root=root), TEST_PARTS[1:]
    files = find_present(find, TEST_PARTS, owner="coco-test2015", optional=part)
    keys = dict.fromkeys(one.key for file in files for one in read_questions(file, TEST_PHOTOS))
    folder = find_folder(folders_below(COCO, root, TEST_PHOTOS), what=f"COCO's {TEST_PHOTOS}")
    items = tuple(MediaItem(key, folder, key) for key in keys)
    return MediaSet("coco-test2015", items, ("vqa2",), root)


def examples(split: str, root: Path) -> list[Example]:
    """The questions of one split, in file order, those of train2014 before those of val2014.

    Args:
        split: one of `SPLITS`.
        root: data root; it or one of its sub-folders holds the question and annotation files and,
            for karpathy_* splits, dataset_coco.json. Where these question files are absent, VL-T5's
            lists in `vqa` serve: their scores are the weights of their answers then, and an entry
            without "answers" needs the annotation files still.

    Returns:
        references: the ten people's answers as published, outer white space removed; empty for
        test2015 and test-dev2015.
        answers: the distinct ones among them, in order of first appearance; no answer is
            normalised and no list of frequent answers is applied.
        weights: for each of `answers` its soft score min(1, people / 3).

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: a file is not there.
        MalformedFileError: a file has another layout, or a question lacks its annotation.
    """
    check_split(split, SPLITS, owner="task vqa2")
    if split in TEST_PARTS:
        return read_questions(_test_file(split, root), TEST_PHOTOS)
    full = split if split in VLT5_FILES else f"karpathy_{split}"
    lists = [f"{folder}/{VLT5_FILES[full]}" for folder in VLT5_FOLDERS]
    file = FILES.find(FILES.questions, FIRST_PART[full], root, instead=lists)
    if file.name == VLT5_FILES[full]:
        return _listed_questions(file, root)
    if full in STANDARD_PARTS:
        return read_answered(FILES, STANDARD_PARTS[full], root)
    parts = {photo.key: _part_of(photo) for photo in photos_of(full, find_coco_file(root))}
    return [
        example
        for part in sorted(set(parts.values()))
        for example in read_answered(FILES, part, root, photos=parts)
    ]


def _test_file(part: str, root: Path) -> Path:
    return FILES.find(FILES.questions, part, root)


def _part_of(photo: Photo) -> str:
    if photo.folder not in PARTS:
        raise photo.record.wrong("filepath", photo.folder, " or ".join(PARTS))
    return photo.folder


def _listed_questions(file: Path, root: Path) -> list[Example]:
    """The questions of a list of VL-T5's."""
    examples: list[Example] = []
    bare: dict[str, set[str]] = {part: set() for part in PARTS}
    for asked in read_asked(file):
        examples.append(_listed(asked))
        if not examples[-1].references:
            bare[_listed_part(asked)].add(asked.question_id)
    with_unique_ids(examples, file=file)
    said: dict[str, HumanAnswers] = {}
    for part, wanted in bare.items():
        if wanted:
            said |= read_said(FILES, part, root, wanted=wanted)
    return [_completed(one, said) for one in examples]


def _listed(asked: Vlt5Question) -> Example:
    _listed_part(asked)
    record = asked.record
    people = record.column("answers", "answer") if record.has("answers") else ()
    question = Example(
        key=intern(f"{asked.photo}.jpg"),
        question_id=asked.question_id,
        prompt=asked.prompt,
        answers=tuple(asked.label),
        references=(),
        weights=tuple(asked.label.values()),
        question_type=intern(record.word("question_type")),
        answer_type=intern(record.word("answer_type")),
    )
    return _with_people(question, tuple(map(intern, people))) if people else question


def _listed_part(asked: Vlt5Question) -> str:
    for part in PARTS:
        if asked.photo.startswith(f"COCO_{part}_"):
            return part
    raise asked.record.wrong("img_id", asked.photo, f"COCO_{PARTS[0]}_... or COCO_{PARTS[1]}_...")


def _completed(question: Example, said: dict[str, HumanAnswers]) -> Example:
    if question.references:
        return question
    return _with_people(question, said[question.question_id].people)


def _with_people(question: Example, people: tuple[str, ...]) -> Example:
    """References from people; where no listed answer fits, people's answers are taught, too."""
    if question.answers:
        return question._replace(references=people)
    types = question.question_type, question.answer_type
    return answered(question, HumanAnswers(people, *types))
