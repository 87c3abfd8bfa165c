"""OK-VQA (Marino et al. 2019) over COCO's photos; its annotations hold stemmed and raw answers."""

from pathlib import Path

from epalm.tasks.readers.data_files import check_split
from epalm.tasks.readers.vqa_format import VqaFiles, read_answered
from epalm.tasks.types import Example, Task

PART_OF = {"train": "train2014", "val": "val2014", "test": "val2014"}
"""Split -> part; 9,009 and 5,046 questions. There is no third part: val and test are the same."""

SPLITS = tuple(PART_OF)

FILES = VqaFiles(
    questions="OpenEnded_mscoco_{part}_questions.json",
    annotations="mscoco_{part}_annotations.json",
    folders=("okvqa", "OKVQA", "coco/okvqa", "COCO/okvqa"),
    published="a file of OK-VQA 1.1 (okvqa.allenai.org, Download; VQA v1 has files of this name)",
    answer="raw_answer",
)


def task(root: Path) -> Task:
    """The task okvqa; no file is read yet, and `root` therefore not used."""
    del root
    return Task("okvqa", "qa", "vqa", SPLITS, examples)


def examples(split: str, root: Path) -> list[Example]:
    """The questions of one split, in file order, answers as people wrote them ("raw_answer").

    Raises:
        UnknownSplitError: no such split.
        MissingFileError: a file is not there.
        MalformedFileError: a file has another layout, or a question lacks its annotation.
    """
    check_split(split, SPLITS, owner="task okvqa")
    return read_answered(FILES, PART_OF[split], root)
