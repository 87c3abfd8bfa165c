"""VQA v2 on COCO images: the official question and annotation files, or VL-T5's lists.

The splits karpathy_* assign questions by the split of their image in Karpathy's caption splits, so
that no image of the test split is seen in training. The splits standard_* are the official training
and validation files. test2015 and test-dev2015 have no published answers; they are for submissions.
"""

from functools import partial
from pathlib import Path
from sys import intern

from epalm.tasks.benchmarks.karpathy import (
    COCO,
    KarpathyImage,
    find_coco_file,
    image_folder_candidates,
    images_of_split,
)
from epalm.tasks.readers.data_files import (
    check_split,
    check_unique_ids,
    find_available,
    find_folder,
)
from epalm.tasks.readers.vlt5_lists import Vlt5Question, read_vlt5_questions
from epalm.tasks.readers.vqa_format import (
    HumanAnswers,
    VqaFiles,
    read_answered_questions,
    read_human_answers,
    read_questions,
    with_answers,
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
"""`train`, `val` and `test` are short for the karpathy_ splits."""

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
"""Split -> the part whose official question file is read first."""

TEST_IMAGES = "test2015"
"""The part of COCO with the images of all test questions."""


def task(root: Path) -> Task:
    """Return the task vqa2; files are read by `examples` alone, so `root` is unused."""
    del root
    return Task("vqa2", "qa", "vqa", SPLITS, examples, "karpathy_train", "karpathy_val")


def submission_images(root: Path) -> MediaSet:
    """List the images of the test questions once each, in order of first appearance.

    Raises:
        MissingFileError: there is no test question file, or no folder test2015.
        MalformedFileError: a file has an unexpected structure.
    """
    find, optional = partial(_test_file, root=root), TEST_PARTS[1:]
    files = find_available(find, TEST_PARTS, owner="coco-test2015", optional=optional)
    keys = dict.fromkeys(
        question.key for file in files for question in read_questions(file, TEST_IMAGES)
    )
    candidates = image_folder_candidates(COCO, root, TEST_IMAGES)
    folder = find_folder(candidates, what=f"COCO's {TEST_IMAGES} images")
    items = tuple(MediaItem(key, folder, key) for key in keys)
    return MediaSet("coco-test2015", items, ("vqa2",), root)


def examples(split: str, root: Path) -> list[Example]:
    """Read the questions of one split, in file order, train2014 before val2014.

    Args:
        split: one of `SPLITS`.
        root: data root; it or one of its sub-folders contains the question and annotation files
            and, for karpathy_* splits, dataset_coco.json. If these question files are missing,
            VL-T5's lists in `vqa` are read: their scores are the weights of their answers, and
            entries without "answers" still need the annotation files.

    Returns:
        Examples with these fields. `references` are the ten published answers, stripped of
        whitespace; empty for test2015 and test-dev2015. `answers` are the distinct references in
        order of first appearance; they are not normalized, and no list of frequent answers is
        applied. `weights` are their soft scores min(1, annotators / 3).

    Raises:
        UnknownSplitError: there is no such split.
        MissingFileError: a file does not exist.
        MalformedFileError: a file has an unexpected structure, or a question has no annotation.
    """
    check_split(split, SPLITS, owner="task vqa2")
    if split in TEST_PARTS:
        return read_questions(_test_file(split, root), TEST_IMAGES)
    full_name = split if split in VLT5_FILES else f"karpathy_{split}"
    lists = [f"{folder}/{VLT5_FILES[full_name]}" for folder in VLT5_FOLDERS]
    file = FILES.find(FILES.questions, FIRST_PART[full_name], root, instead=lists)
    if file.name == VLT5_FILES[full_name]:
        return _read_vlt5(file, root)
    if full_name in STANDARD_PARTS:
        return read_answered_questions(FILES, STANDARD_PARTS[full_name], root)
    images = images_of_split(full_name, find_coco_file(root))
    parts = {image.key: _part_of(image) for image in images}
    return [
        example
        for part in sorted(set(parts.values()))
        for example in read_answered_questions(FILES, part, root, images=parts)
    ]


def _test_file(part: str, root: Path) -> Path:
    return FILES.find(FILES.questions, part, root)


def _part_of(image: KarpathyImage) -> str:
    if image.folder not in PARTS:
        raise image.record.error("filepath", image.folder, " or ".join(PARTS))
    return image.folder


def _read_vlt5(file: Path, root: Path) -> list[Example]:
    """Read the questions of a VL-T5 list."""
    examples: list[Example] = []
    unannotated: dict[str, set[str]] = {part: set() for part in PARTS}
    for question in read_vlt5_questions(file):
        examples.append(_vlt5_example(question))
        if not examples[-1].references:
            unannotated[_vlt5_part(question)].add(question.question_id)
    check_unique_ids(examples, file=file)
    annotations: dict[str, HumanAnswers] = {}
    for part, ids in unannotated.items():
        if ids:
            annotations |= read_human_answers(FILES, part, root, question_ids=ids)
    return [_with_annotation(example, annotations) for example in examples]


def _vlt5_example(question: Vlt5Question) -> Example:
    _vlt5_part(question)  # refuses an unknown part
    record = question.record
    references = record.member_texts("answers", "answer") if record.has("answers") else ()
    example = Example(
        key=intern(f"{question.image_id}.jpg"),
        question_id=question.question_id,
        prompt=question.prompt,
        answers=tuple(question.label),
        references=(),
        weights=tuple(question.label.values()),
        question_type=intern(record.optional_text("question_type")),
        answer_type=intern(record.optional_text("answer_type")),
    )
    return _with_references(example, tuple(map(intern, references))) if references else example


def _vlt5_part(question: Vlt5Question) -> str:
    image_id = question.image_id
    for part in PARTS:
        if image_id.startswith(f"COCO_{part}_"):
            return part
    expected = f"COCO_{PARTS[0]}_... or COCO_{PARTS[1]}_..."
    raise question.record.error("img_id", image_id, expected)


def _with_annotation(example: Example, annotations: dict[str, HumanAnswers]) -> Example:
    if example.references:
        return example
    return _with_references(example, annotations[example.question_id].answers)


def _with_references(example: Example, references: tuple[str, ...]) -> Example:
    """Add human answers as references, and as training targets if the list has none."""
    if example.answers:
        return example._replace(references=references)
    types = example.question_type, example.answer_type
    return with_answers(example, HumanAnswers(references, *types))
