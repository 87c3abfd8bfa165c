"""How an evaluation answers: with the run's decoding settings, or with other ones."""

import re
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

from epalm.errors import UsageError
from epalm.evaluate.preparation.answer_lists import read_answers, top_answers
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.model.method.model_settings import Decoding
from epalm.tasks.types import Task

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
        decoding = own.changed(given_decoding(options))
        return AnswerMethod(
            decoding, description=describe(decoding), suffix=_difference(own, decoding)
        )
    if given_decoding(options):
        raise UsageError(
            "--answers ranks the answers of a list and generates nothing: leave out --beams, "
            "--max-new-tokens, --sample, --temperature, --top-p and --seed"
        )
    if number := re.fullmatch(r"top-(-?\d+)", options.answers):
        count, source = int(number[1]), f"{task.name} {training_split}"
        answers = top_answers(count, task, root=root, split=training_split)
        words = f"the most probable of the {len(answers):,} most frequent answers of {source}"
        return AnswerMethod(own, tuple(answers), description=words, suffix=f"-top{count}")
    file = Path(options.answers)
    answers = read_answers(file)
    digest = zlib.crc32("\n".join(answers).encode())
    words = f"the most probable of {len(answers):,} answers of {file.name}"
    suffix = f"-answers-{file.stem}-{digest:08x}"
    return AnswerMethod(own, tuple(answers), description=words, suffix=suffix)


def given_decoding(options: object) -> dict[str, object]:
    """The decoding settings that options specify, in fields of the same names; None for not."""
    given = {field.name: getattr(options, field.name) for field in fields(Decoding)}
    return {name: value for name, value in given.items() if value is not None}


def describe(decoding: Decoding) -> str:
    """Decoding settings in words, e.g. "greedy, at most 20 new tokens"."""
    method = "greedy" if decoding.num_beams == 1 else f"{decoding.num_beams} beams"
    if decoding.do_sample:
        method = (
            f"sampling (temperature {decoding.temperature:g}, top-p {decoding.top_p:g}, "
            f"seed {decoding.seed})"
        )
    return f"{method}, at most {decoding.max_new_tokens} new tokens"


def _difference(own: Decoding, used: Decoding) -> str:
    """The settings that differ from the run's own, for the name of a folder."""
    parts = []
    if own.do_sample != used.do_sample:
        parts.append("sample" if used.do_sample else "greedy")
    for name, short in SHORT_NAMES.items():
        if getattr(own, name) != getattr(used, name):
            parts.append(f"{short}{getattr(used, name)}".removesuffix(".0"))
    return "".join(f"-{part}" for part in parts)
