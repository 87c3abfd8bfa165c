"""How an evaluation answers: as its run does, or otherwise where it is told so."""

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
from epalm.model.method.model_settings import Decoding
from epalm.tasks.types import Example, Task

SHORT_NAMES = {
    "num_beams": "beams",
    "max_new_tokens": "new",
    "temperature": "t",
    "top_p": "p",
    "seed": "seed",
}
"""Settings of a decoding -> how the name of an evaluation's folder calls them."""


@dataclass(frozen=True)
class DecodingOverrides:
    """What is to differ from the run's own way; None and empty for what is not.

    Attributes:
        num_beams: see `model_settings.Decoding`, as all that follow but the last.
        max_new_tokens: likewise.
        do_sample: likewise.
        temperature: likewise.
        top_p: likewise.
        seed: likewise.
        answers: "top-N" to rank the N most frequent answers of the split that teaches the task, or
            a text file with one answer per line, in place of generating.
    """

    num_beams: int | None = None
    max_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    answers: str = ""

    def decoding(self, own: Decoding) -> Decoding:
        """The run's own decoding with the changes.

        Who asks for sampling need not ask for one beam, nor who turns it off for its settings.

        Raises:
            UsageError: they do not go together.
        """
        changes = {
            field.name: value
            for field in fields(Decoding)
            if (value := getattr(self, field.name)) is not None
        }
        if self.do_sample:
            changes = {"num_beams": 1} | changes
        elif self.do_sample is False:
            changes = {"temperature": 1.0, "top_p": 1.0, "seed": 0} | changes
        return replace(own, **changes)

    def settle(self, own: Decoding, task: Task, *, root: Path, taught: str) -> "AnswerMethod":
        """The way to answer.

        Args:
            own: the run's decoding.
            task: what is asked.
            root: where its files lie.
            taught: its split that gives the most frequent answers, all of it, however few examples
                of it the run learnt from: the list is the data's, the same for all runs.

        Raises:
            UsageError: settings that do not go together, an empty list, or no such split.
            MissingFileError: there is no such file of answers.
            DataError: the file cannot be read, or there is no answer to rank.
        """
        if not self.answers:
            decoding = self.decoding(own)
            return AnswerMethod(
                decoding, words=describe(decoding), suffix=_difference(own, decoding)
            )
        if replace(self, answers="") != DecodingOverrides():
            raise UsageError(
                "--answers ranks a closed list, which generates nothing: leave out --beams, "
                "--max-new-tokens, --sample, --temperature, --top-p and --seed"
            )
        if number := re.fullmatch(r"top-(-?\d+)", self.answers):
            count, of = int(number[1]), f"{task.name} {taught}"
            answers = _top_answers(count, task, root=root, taught=taught)
            words = f"the most probable of the {len(answers):,} most frequent answers of {of}"
            return AnswerMethod(own, tuple(answers), words=words, suffix=f"-top{count}")
        answers = read_answers(Path(self.answers))
        name, digest = Path(self.answers).stem, zlib.crc32("\n".join(answers).encode())
        words = f"the most probable of {len(answers):,} answers of {Path(self.answers).name}"
        return AnswerMethod(
            own, tuple(answers), words=words, suffix=f"-answers-{name}-{digest:08x}"
        )


@dataclass(frozen=True)
class AnswerMethod:
    """A way to answer.

    Attributes:
        decoding: how text is generated.
        answers: a closed list to rank in place of generating; empty for none.
        words: the same for people.
        suffix: of the evaluation's folder; empty for the run's own way.
    """

    decoding: Decoding
    answers: tuple[str, ...] = ()
    words: str = ""
    suffix: str = ""


def describe(decoding: Decoding) -> str:
    """A decoding in words: "greedy, at most 20 new tokens"."""
    ways = {1: "greedy"}
    way = ways.get(decoding.num_beams, f"{decoding.num_beams} beams")
    if decoding.do_sample:
        way = (
            f"sampling (temperature {decoding.temperature:g}, top-p {decoding.top_p:g}, "
            f"seed {decoding.seed})"
        )
    return f"{way}, at most {decoding.max_new_tokens} new tokens"


def _top_answers(count: int, task: Task, *, root: Path, taught: str) -> list[str]:
    if count < 1:
        raise UsageError(f"--answers top-{count} is an empty list: wanted e.g. top-1000")
    if taught not in task.splits:
        raise UnknownSplitError(
            f"there is no {task.name} {taught}, whose answers --answers top-{count} would rank: "
            "give a text file with one answer per line"
        )
    return frequent_answers(task.examples(taught, root), count)


def frequent_answers(examples: Sequence[Example], count: int) -> list[str]:
    """The answers that training draws most often, in order of that.

    Args:
        examples: of the training split.
        count: how many, or all if there are fewer.

    Raises:
        DataError: no example has an answer.
    """
    drawn: dict[str, float] = {}
    for example in examples:
        weights = example.weights or (1.0,) * len(example.answers)
        total = sum(weights)
        for answer, weight in zip(example.answers, weights, strict=True):
            if weight:
                drawn[answer] = drawn.get(answer, 0.0) + weight / total
    if not drawn:
        raise DataError("the training split has no answers to rank: give --answers a text file")
    return sorted(drawn, key=lambda answer: (-drawn[answer], answer))[:count]


def read_answers(file: Path) -> list[str]:
    """The lines of a text file without outer blanks, none of them empty.

    Raises:
        MissingFileError: there is no such file.
        MalformedFileError: it is no text, or holds no answer.
    """
    if not file.is_file():
        raise MissingFileError(
            f"{file} is not there: give --answers a text file with one answer per line, or top-N "
            "for the N most frequent answers of training, e.g. top-1000"
        )
    try:
        answers = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8, wanted one answer per line") from error
    found = [answer for answer in answers if answer]
    if not found:
        raise MalformedFileError(f"{file} holds no answer, wanted one per line")
    return found


def _difference(own: Decoding, asked: Decoding) -> str:
    """What is not as the run's own way, for the name of a folder."""
    parts = []
    if own.do_sample != asked.do_sample:
        parts.append("sample" if asked.do_sample else "greedy")
    for name, short in SHORT_NAMES.items():
        if getattr(own, name) != getattr(asked, name):
            parts.append(f"{short}{getattr(asked, name)}".removesuffix(".0"))
    return "".join(f"-{part}" for part in parts)
