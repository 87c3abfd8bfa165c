"""Submission files for the servers that score splits without published answers."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

from epalm.atomic_write import write_file
from epalm.console import counted
from epalm.errors import DataError, UsageError
from epalm.evaluate.scores.eval_results import (
    Evaluation,
    PredictionRecord,
    ensure_writable,
    read_evaluation,
)
from epalm.tasks.types import Kind

Row = dict[str, str | int]

SERVERS = {"vqa2": "vqa", "okvqa": "vqa", "gqa": "gqa", "nocaps-caption": "nocaps"}
"""Format of each task's server; no server of another task is known."""

KINDS: dict[str, Kind] = {"vqa": "qa", "gqa": "qa", "nocaps": "caption"}
"""Kind of the answers in each format."""


def write_submission(folder: Path, file_format: str, out: Path) -> tuple[str, Evaluation]:
    """Write predictions in the format of a benchmark server.

    A split with published answers is written too, since the evaluation programs of the benchmarks
    read the same files.

    Args:
        folder: RUN/eval/SPLIT.
        file_format: key of `FORMATS`; empty for the format of the task's server.
        out: file to write, atomically.

    Returns:
        The format, and the evaluation that was written.

    Raises:
        UsageError: the format is unknown, is not that of the task's server, is not given for a task
            without a server, or is for captions where the task has answers, or the reverse.
        MissingFileError: the folder has no evaluation.
        MalformedFileError: the files of the evaluation cannot be read.
        DataError: the evaluation does not have the whole split, the server cannot know an id, or
            the file cannot be written.
    """
    if file_format and file_format not in FORMATS:
        raise UsageError(
            f"no server takes the format {file_format!r}: choose one of {', '.join(FORMATS)}"
        )
    evaluation = read_evaluation(folder)
    file_format = _resolve_format(file_format, evaluation)
    _check_complete(folder, evaluation)
    rows = [FORMATS[file_format](record) for record in evaluation.predictions]
    ensure_writable(out)
    write_file(out, json.dumps(rows, ensure_ascii=False) + "\n")
    return file_format, evaluation


def submit_command(folder: Path, evaluation: Evaluation) -> str:
    """The command that writes the submission; empty if no server would accept it."""
    file_format = SERVERS.get(evaluation.task)
    if not file_format or evaluation.skipped or evaluation.example_count < evaluation.split_size:
        return ""
    place, out = shlex.quote(str(folder)), shlex.quote(f"{evaluation.split}.json")
    return f"epalm-eval submit {place} --format {file_format} --out {out}"


def _resolve_format(file_format: str, evaluation: Evaluation) -> str:
    """The given format, or else that of the task's server."""
    task, kind = evaluation.task, evaluation.kind
    server = SERVERS.get(task)
    if not file_format and not server:
        fitting = " or ".join(name for name, of_format in KINDS.items() if of_format == kind)
        raise UsageError(
            f"no server of the task {task} is known: give the format with --format {fitting}"
        )
    if file_format and server and file_format != server:
        raise UsageError(
            f"the server of {task} takes --format {server}, found {file_format}: leave it out"
        )
    file_format = file_format or server or ""
    if KINDS[file_format] != kind:
        other, needed = ("answers", "captions") if kind == "caption" else ("captions", "answers")
        raise UsageError(f"--format {file_format} is for {other}, and {task} has {needed}")
    return file_format


def _check_complete(folder: Path, evaluation: Evaluation) -> None:
    """Refuse files that servers refuse: those without all questions of the split."""
    split, size, count = evaluation.split, evaluation.split_size, evaluation.example_count
    if not size:
        raise DataError(
            f"{folder} was written by an earlier version, which does not record whether it has all "
            f"of {split}, and servers need all: run the same `epalm-eval` again"
        )
    if count < size:
        raise DataError(
            f"{folder} has the first {count} of {counted(size, 'question')} of {split}, and "
            "servers need all: run the same `epalm-eval` without --limit, and submit the folder "
            "that it names"
        )
    if evaluation.skipped:
        raise DataError(
            f"{folder} lacks {counted(len(evaluation.skipped), 'question')} of {split}, "
            f"the first is {evaluation.skipped[0]}, and servers need all: their samples could not "
            "be encoded; run `epalm-extract retry-failed STORE` (with --encoder if the encoder is "
            "a module:factory), then the same `epalm-eval`"
        )


def _vqa(record: PredictionRecord) -> Row:
    """The format of the EvalAI servers of VQA v2 and OK-VQA (visualqa.org, evaluation)."""
    return {"question_id": _number(record, "VQA"), "answer": record.prediction}


def _nocaps(record: PredictionRecord) -> Row:
    """The format of the EvalAI server of nocaps (nocaps.org)."""
    return {"image_id": _number(record, "nocaps"), "caption": record.prediction}


def _gqa(record: PredictionRecord) -> Row:
    """The format of GQA's server and of its eval.py (cs.stanford.edu/people/dorarad/gqa)."""
    return {"questionId": record.id, "prediction": record.prediction}


FORMATS: dict[str, Callable[[PredictionRecord], Row]] = {
    "vqa": _vqa,
    "nocaps": _nocaps,
    "gqa": _gqa,
}
"""Function that makes an element of the file's list, for each format."""


def _number(record: PredictionRecord, server: str) -> int:
    if not record.id.isdecimal():
        raise DataError(
            f"the id {record.id!r} is not a number, as {server}'s server needs: "
            "submit an evaluation of the published split"
        )
    return int(record.id)
