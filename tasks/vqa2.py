"""VQA v2: the official question and annotation files, over COCO's photos.

The splits karpathy_* put each question where Karpathy's caption splits put its photo, so that no
photo of the test split is seen in training; standard_* are the official training and validation
files as they are.
"""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from sys import intern

from epalm.tasks.files import JsonRecord, check_split, find_file, read_json, with_unique_ids
from epalm.tasks.karpathy import Photo, find_coco_file, photos_of
from epalm.tasks.records import Example, Task

SPLITS = (
    "karpathy_train",
    "karpathy_val",
    "karpathy_test",
    "standard_train",
    "standard_val",
    "train",
    "val",
    "test",
)
"""train, val and test mean the karpathy_ splits."""

STANDARD_PARTS = {"standard_train": "train2014", "standard_val": "val2014"}

QUESTIONS_FILE = "v2_OpenEnded_mscoco_{part}_questions.json"
ANNOTATIONS_FILE = "v2_mscoco_{part}_annotations.json"
PUBLISHED = 'a file of VQA v2 (visualqa.org, Download, "balanced real images")'
FOLDERS = ("vqa2", "coco")

FULL_SCORE_PEOPLE = 3
"""An answer that so many of the ten people gave scores 1 (Antol et al. 2015)."""


def task(root: Path) -> Task:
    """The task vqa2; no file is read yet, and `root` therefore not used."""
    del root
    return Task("vqa2", "qa", "vqa", SPLITS, examples, "karpathy_train", "karpathy_val")


def examples(split: str, root: Path) -> list[Example]:
    """The questions of one split, in file order, those of train2014 before those of val2014.

    Args:
        split: one of `SPLITS`.
        root: data root; it or its sub-folder `vqa2` or `coco` holds the question and annotation
            files and, for karpathy_* splits, dataset_coco.json.

    Returns:
        references: the ten people's answers as published, outer white space removed.
        answers: the distinct ones among them, in order of first appearance; no answer is
            normalised and no list of frequent answers is applied.
        weights: for each of `answers` its soft score min(1, people / 3).

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: a file is not there.
        MalformedFileError: a file has another layout, or a question lacks its annotation.
    """
    check_split(split, SPLITS, owner="task vqa2")
    if split in STANDARD_PARTS:
        return _questions(STANDARD_PARTS[split], root, photos=None)
    photos = photos_of(split, find_coco_file(root))
    keys = {photo.key for photo in photos}
    parts = sorted({_part_of(photo) for photo in photos})
    return [example for part in parts for example in _questions(part, root, photos=keys)]


def soft_scores(answers: Collection[str]) -> dict[str, float]:
    """Each distinct answer's score min(1, people / 3), in order of first appearance."""
    return {
        answer: min(1.0, people / FULL_SCORE_PEOPLE) for answer, people in Counter(answers).items()
    }


def _part_of(photo: Photo) -> str:
    parts = STANDARD_PARTS.values()
    if photo.folder not in parts:
        raise photo.record.wrong("filepath", photo.folder, " or ".join(parts))
    return photo.folder


def _questions(part: str, root: Path, *, photos: Collection[str] | None) -> list[Example]:
    """The questions of one official file, or those about `photos` only."""
    questions_file = _find(QUESTIONS_FILE, part, root)
    annotations = _annotations(_find(ANNOTATIONS_FILE, part, root))
    found = []
    for question in read_json(questions_file).records("questions"):
        key = _photo_name(part, question)
        if photos is None or key in photos:
            found.append(_example(key, question, annotations))
    return with_unique_ids(found, file=questions_file)


def _find(pattern: str, part: str, root: Path) -> Path:
    name = pattern.format(part=part)
    return find_file(name, root=root, folders=FOLDERS, published=PUBLISHED)


def _annotations(file: Path) -> dict[str, JsonRecord]:
    found: dict[str, JsonRecord] = {}
    for record in read_json(file, object_hook=_answer_alone).records("annotations"):
        question_id = record.identifier("question_id")
        if question_id in found:
            raise record.wrong("question_id", question_id, "one that no other annotation has")
        found[question_id] = record
    return found


def _answer_alone(record: dict[str, object]) -> object:
    """Replace one person's answer by its text; four million small objects would fill memory."""
    answer = record.get("answer")
    return intern(answer.strip()) if isinstance(answer, str) else record


def _photo_name(part: str, question: JsonRecord) -> str:
    number = question.identifier("image_id")
    if not number.isdecimal():
        raise question.wrong("image_id", number, "the number of a COCO photo")
    return f"COCO_{part}_{int(number):012d}.jpg"


def _example(key: str, question: JsonRecord, annotations: dict[str, JsonRecord]) -> Example:
    question_id = question.identifier("question_id")
    if question_id not in annotations:
        raise question.wrong("question_id", question_id, "one that the annotation file holds too")
    annotation = annotations[question_id]
    references = annotation.texts("answers")
    if not references:
        raise annotation.wrong("answers", references, "at least one answer")
    scores = soft_scores(references)
    return Example(
        key=key,
        question_id=question_id,
        prompt=question.text("question"),
        answers=tuple(scores),
        references=tuple(references),
        weights=tuple(scores.values()),
        question_type=annotation.text("question_type"),
        answer_type=annotation.text("answer_type"),
    )
