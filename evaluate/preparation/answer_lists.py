"""Lists of answers to rank: the most frequent ones of a split, or those of a text file."""

from collections.abc import Sequence
from pathlib import Path

from epalm.errors import (
    DataError,
    MalformedFileError,
    MissingFileError,
    UnknownSplitError,
    UsageError,
)
from epalm.tasks.types import Example, Task


def top_answers(count: int, task: Task, *, root: Path, split: str) -> list[str]:
    """The `count` most frequent answers of a split of the task, the most frequent first.

    Args:
        count: number of answers; all if there are fewer.
        task: task whose answers are counted.
        root: folder of the task's files.
        split: split whose answers are counted.

    Raises:
        UsageError: `count` is below 1, or the task has no such split.
        DataError: the files cannot be read, or no example has an answer.
    """
    if count < 1:
        raise UsageError(f"--answers top-{count} is an empty list: give e.g. top-1000")
    if split not in task.splits:
        raise UnknownSplitError(
            f"--answers top-{count} needs the answers of {task.name} {split}, which does not "
            "exist: give a text file with one answer per line"
        )
    return frequent_answers(task.examples(split, root), count)


def frequent_answers(examples: Sequence[Example], count: int) -> list[str]:
    """The answers that training draws most often, the most frequent first.

    Args:
        examples: examples of the training split.
        count: number of answers; all if there are fewer.

    Raises:
        DataError: no example has an answer.
    """
    frequency: dict[str, float] = {}
    for example in examples:
        weights = example.weights or (1.0,) * len(example.answers)
        total = sum(weights)
        for answer, weight in zip(example.answers, weights, strict=True):
            if weight:
                frequency[answer] = frequency.get(answer, 0.0) + weight / total
    if not frequency:
        raise DataError("the training split has no answers to rank: give --answers a text file")
    return sorted(frequency, key=lambda answer: (-frequency[answer], answer))[:count]


def read_answers(file: Path) -> list[str]:
    """The non-empty lines of a text file, without leading and trailing white space.

    Raises:
        MissingFileError: the file does not exist.
        MalformedFileError: the file is not UTF-8 text, or has no answer.
    """
    if not file.is_file():
        raise MissingFileError(
            f"there is no file {file}: give --answers a text file with one answer per line, or "
            "top-N for the N most frequent answers of training, e.g. top-1000"
        )
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: expected one answer per line") from error
    answers = [line for line in lines if line]
    if not answers:
        raise MalformedFileError(f"{file} has no answer: expected one per line")
    return answers
