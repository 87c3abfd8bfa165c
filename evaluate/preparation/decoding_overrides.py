"""How an evaluation answers: with the run's decoding settings, or with other ones."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from epalm.errors import (
    DataError,
    MalformedFileError,
    MissingFileError,
    UnknownSplitError,
    UsageError,
)
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.model.method.model_settings import Decoding
from epalm.tasks.types import Example, Task

SHORT_NAMES = {
    "num_beams": "beams",
    "max_new_tokens": "new",
    "temperature": "t",
    "top_p": "p",
    "seed": "seed",
}
"""Decoding setting -> its name in the name of an evaluation's folder."""


@dataclass(frozen=True)
class AnswerMethod:
    """How an evaluation answers its questions.

    Attributes:
        decoding: settings of text generation.
        answers: the answers to rank by log-likelihood instead of generating; empty to generate.
        description: the method in words, for the report.
        suffix: end of the name of the evaluation's folder; empty for the run's own method.
    """

    decoding: Decoding
    answers: tuple[str, ...] = ()
    description: str = ""
    suffix: str = ""


def answer_method(
    options: EvalOptions, own: Decoding, task: Task, *, root: Path, training_split: str
) -> AnswerMethod:
    """Choose how to answer: as the run does, except where the options differ.

    Args:
        options: the options of the evaluation.
        own: decoding settings of the run.
        task: task to evaluate.
        root: folder of the task's files.
        training_split: split of the task whose most frequent answers "top-N" ranks. The whole
            split counts, also for a run that was trained on a part of it: the list is the same for
            all runs.

    Raises:
        UsageError: the settings contradict each other, the list is empty, or the task has no such
            split.
        MissingFileError: the file of answers does not exist.
        DataError: the file cannot be read, or there is no answer to rank.
    """
    if not options.answers:
        decoding = override_decoding(options, own)
        return AnswerMethod(
            decoding, description=describe(decoding), suffix=_difference(own, decoding)
        )
    if any(getattr(options, field.name) is not None for field in fields(Decoding)):
        raise UsageError(
            "--answers ranks the answers of a list and generates nothing: leave out --beams, "
            "--max-new-tokens, --sample, --temperature, --top-p and --seed"
        )
    if number := re.fullmatch(r"top-(-?\d+)", options.answers):
        count, source = int(number[1]), f"{task.name} {training_split}"
        answers = _top_answers(count, task, root=root, split=training_split)
        words = f"the most probable of the {len(answers):,} most frequent answers of {source}"
        return AnswerMethod(own, tuple(answers), description=words, suffix=f"-top{count}")
    file = Path(options.answers)
    answers = read_answers(file)
    digest = zlib.crc32("\n".join(answers).encode())
    words = f"the most probable of {len(answers):,} answers of {file.name}"
    suffix = f"-answers-{file.stem}-{digest:08x}"
    return AnswerMethod(own, tuple(answers), description=words, suffix=suffix)


def override_decoding(options: EvalOptions, own: Decoding) -> Decoding:
    """The run's decoding settings with the changes of the options.

    Turning sampling on sets the number of beams to 1, and turning it off resets the settings of
    sampling, unless the options set them.

    Raises:
        UsageError: the settings contradict each other.
    """
    changes = {
        field.name: value
        for field in fields(Decoding)
        if (value := getattr(options, field.name)) is not None
    }
    if options.do_sample:
        changes = {"num_beams": 1} | changes
    elif options.do_sample is False:
        changes = {"temperature": 1.0, "top_p": 1.0, "seed": 0} | changes
    return replace(own, **changes)


def describe(decoding: Decoding) -> str:
    """Decoding settings in words, e.g. "greedy, at most 20 new tokens"."""
    method = "greedy" if decoding.num_beams == 1 else f"{decoding.num_beams} beams"
    if decoding.do_sample:
        method = (
            f"sampling (temperature {decoding.temperature:g}, top-p {decoding.top_p:g}, "
            f"seed {decoding.seed})"
        )
    return f"{method}, at most {decoding.max_new_tokens} new tokens"


def _top_answers(count: int, task: Task, *, root: Path, split: str) -> list[str]:
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


def _difference(own: Decoding, used: Decoding) -> str:
    """The settings that differ from the run's own, for the name of a folder."""
    parts = []
    if own.do_sample != used.do_sample:
        parts.append("sample" if used.do_sample else "greedy")
    for name, short in SHORT_NAMES.items():
        if getattr(own, name) != getattr(used, name):
            parts.append(f"{short}{getattr(used, name)}".removesuffix(".0"))
    return "".join(f"-{part}" for part in parts)
