"""OK-VQA (Marino et al. 2019) on COCO images; its annotations have stemmed and raw answers."""

from pathlib import Path

from epalm.tasks.readers.data_files import check_split
from epalm.tasks.readers.vqa_format import VqaFiles, read_answered_questions
from epalm.tasks.types import Example, Task

PART_OF = {"train": "train2014", "val": "val2014", "test": "val2014"}
"""Split -> part: 9,009 and 5,046 questions. There is no third part: val and test are the same."""

SPLITS = tuple(PART_OF)

FILES = VqaFiles(
    questions="OpenEnded_mscoco_{part}_questions.json",
    annotations="mscoco_{part}_annotations.json",
    folders=("okvqa", "OKVQA", "coco/okvqa", "COCO/okvqa"),
    published="a file of OK-VQA 1.1 (okvqa.allenai.org, Download; VQA v1 has files of this name)",
    answer="raw_answer",
)


def task(root: Path) -> Task:
    """Return the task okvqa; files are read by `examples` alone, so `root` is unused."""
    del root
    return Task("okvqa", "qa", "vqa", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """Read the questions of one split with the unstemmed answers ("raw_answer"), in file order.

    Raises:
        UnknownSplitError: there is no such split.
        MissingFileError: a file does not exist.
        MalformedFileError: a file has an unexpected structure, or a question has no annotation.
    """
    check_split(split, SPLITS, owner="task okvqa")
    return read_answered_questions(FILES, PART_OF[split], root)
