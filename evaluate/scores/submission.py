"""Files for the servers that score splits without published answers."""

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
"""Task -> format of its server; other tasks have none that is known here."""

KINDS: dict[str, Kind] = {"vqa": "qa", "gqa": "qa", "nocaps": "caption"}
"""Format -> what it holds."""


def write_submission(folder: Path, form: str, out: Path) -> tuple[str, Evaluation]:
    """Write what was predicted as a server wants it.

    A split that has answers is written too: the benchmarks' own evaluation programs take the same
    files.

    Args:
        folder: RUN/eval/SPLIT.
        form: a key of `FORMATS`; empty for that of the task's server.
        out: the file; written whole or not at all.

    Returns:
        The format, and the evaluation that was written in it.

    Raises:
        UsageError: no such format, another one than the task's server takes, none where it has no
            server, or one that holds answers where captions were asked for, or the other way round.
        MissingFileError: the folder holds no evaluation.
        MalformedFileError: its files cannot be read.
        DataError: the evaluation does not hold the whole split, an id is not what the server
            knows, or the file cannot be written.
    """
    if form and form not in FORMATS:
        raise UsageError(f"no server takes the format {form!r}: choose one of {', '.join(FORMATS)}")
    evaluation = read_evaluation(folder)
    form = _settled(form, evaluation)
    _check_whole(folder, evaluation)
    rows = [FORMATS[form](one) for one in evaluation.answered]
    ensure_writable(out)
    write_file(out, json.dumps(rows, ensure_ascii=False) + "\n")
    return form, evaluation


def submit_command(folder: Path, evaluation: Evaluation) -> str:
    """What writes the evaluation's submission; empty where no server would take one."""
    form = SERVERS.get(evaluation.task)
    if not form or evaluation.skipped or evaluation.asked < evaluation.split_size:
        return ""
    place, out = shlex.quote(str(folder)), shlex.quote(f"{evaluation.split}.json")
    return f"epalm-eval submit {place} --format {form} --out {out}"


def _settled(form: str, evaluation: Evaluation) -> str:
    """The format that was named, or else that of the task's server."""
    task, kind = evaluation.task, evaluation.kind
    server = SERVERS.get(task)
    if not form and not server:
        fitting = " or ".join(name for name, held in KINDS.items() if held == kind)
        raise UsageError(
            f"no server of the task {task} is known: name the format with --format {fitting}"
        )
    if form and server and form != server:
        raise UsageError(
            f"the server of {task} takes --format {server}, found {form}: leave it out"
        )
    form = form or server or ""
    if KINDS[form] != kind:
        held, asked = ("answers", "captions") if kind == "caption" else ("captions", "answers")
        raise UsageError(f"--format {form} holds {held}, and {task} asks for {asked}")
    return form


def _check_whole(folder: Path, evaluation: Evaluation) -> None:
    """Refuse what servers refuse: a file without all questions of the split."""
    split, wanted, asked = evaluation.split, evaluation.split_size, evaluation.asked
    if not wanted:
        raise DataError(
            f"{folder} was written by an earlier version, which does not say whether it holds all "
            f"of {split}, and servers want all: run the same `epalm-eval` again"
        )
    if asked < wanted:
        raise DataError(
            f"{folder} holds the first {asked} of {counted(wanted, 'question')} of {split}, and "
            "servers want all: run the same `epalm-eval` without --limit, and submit the folder "
            "that it names"
        )
    if evaluation.skipped:
        raise DataError(
            f"{folder} lacks {counted(len(evaluation.skipped), 'question')} of {split}, "
            f"the first is {evaluation.skipped[0]}, and servers want all: their media could not be "
            "encoded; run `epalm-extract retry-failed STORE`, then the same `epalm-eval`"
        )


def _vqa(one: PredictionRecord) -> Row:
    """As the EvalAI servers of VQA v2 and OK-VQA take it (visualqa.org, evaluation)."""
    return {"question_id": _number(one, "VQA"), "answer": one.prediction}


def _nocaps(one: PredictionRecord) -> Row:
    """As the EvalAI server of nocaps takes it (nocaps.org)."""
    return {"image_id": _number(one, "nocaps"), "caption": one.prediction}


def _gqa(one: PredictionRecord) -> Row:
    """As GQA's server and its eval.py take it (cs.stanford.edu/people/dorarad/gqa)."""
    return {"questionId": one.id, "prediction": one.prediction}


FORMATS: dict[str, Callable[[PredictionRecord], Row]] = {
    "vqa": _vqa,
    "nocaps": _nocaps,
    "gqa": _gqa,
}
"""Name of a format -> from an answer to an element of the file's list."""


def _number(one: PredictionRecord, server: str) -> int:
    if not one.id.isdecimal():
        raise DataError(
            f"the id {one.id!r} is no number, and {server}'s server knows questions by number: "
            "submit an evaluation of the published split"
        )
    return int(one.id)
