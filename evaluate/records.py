"""What an evaluation found, and its two files: scores.json and predictions.jsonl.

Where a split's answers are not published, unscored.json stands in place of scores.json.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from epalm.cache.durable import write_file
from epalm.errors import DataError, MalformedFileError, MissingFileError
from epalm.metrics.intervals import GroupMean
from epalm.tasks.records import Kind

SCORES_FILE = "scores.json"
UNSCORED_FILE = "unscored.json"
PREDICTIONS_FILE = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus score as a fraction, with a 95 % interval where it is a mean over examples."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """One example, what was generated for it and how that scores.

    Attributes:
        id: the question's id, unique in the split.
        key: the medium's.
        prompt: the question; empty for captioning.
        prediction: the generated text.
        references: what it was scored against.
        scores: metric -> score of this example alone.
        question_type: its group, see `epalm.evaluate.groups`; empty for captions.
        answer_type: likewise.
        log_probability: see `epalm.model.answering.Answer`, as the next; None in files of earlier
            versions.
        tokens: likewise.
    """

    id: str
    key: str
    prompt: str
    prediction: str
    references: tuple[str, ...]
    scores: dict[str, float]
    question_type: str = ""
    answer_type: str = ""
    log_probability: float | None = None
    tokens: int = 0


@dataclass(frozen=True)
class Evaluation:
    """The result of one run on one split.

    Attributes:
        run: name of the run, a column's head in reports.
        task: name of the task.
        kind: "qa" or "caption".
        split: name of the split.
        blind: whether every record was read from another one's row.
        headline: the key of `scores` that leads tables; empty if nothing could be scored.
        scores: metric -> score; empty where no example has a reference.
        breakdowns: e.g. "question type" -> the headline's mean per group.
        settings: how it was trained and evaluated, name -> value, for people to read.
        fingerprint: every setting that could have changed a stored vector.
        skipped: question ids left out because their medium could not be encoded.
        seconds: wall time of generating and scoring.
        answered: every scored example, in the split's order.
        features: path or URL of the store that was read; empty in files of earlier versions.
        data_root: where the task's files lay; likewise.
        device: that computed; likewise.
        memory: bytes of main memory held at most; 0 likewise.
        device_memory: bytes on a GPU at most; 0 without one.
        left_out: scores that could not be computed -> why.
        split_size: how many examples the split has, however few were asked; 0 in files of earlier
            versions.
    """

    run: str
    task: str
    kind: Kind
    split: str
    blind: bool
    headline: str
    scores: dict[str, Score]
    breakdowns: dict[str, tuple[GroupMean, ...]]
    settings: dict[str, str]
    fingerprint: dict[str, str]
    skipped: tuple[str, ...]
    seconds: float
    answered: tuple[Answered, ...] = field(repr=False)
    features: str = ""
    data_root: str = ""
    device: str = ""
    memory: int = 0
    device_memory: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    split_size: int = 0

    @property
    def asked(self) -> int:
        """How many examples of the split were asked, those without an encoded medium included."""
        return len(self.answered) + len(self.skipped)


def make_folder(folder: Path) -> None:
    """Make a folder that results will go to, unless it is there, before they are computed.

    Raises:
        DataError: nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"nothing can be written to {folder} ({error.strerror}): wanted a folder, or a place "
            "to make one; remove what is in its way, or name another"
        ) from error


def remove_empty(folder: Path) -> None:
    """Undo `make_folder` of an evaluation that wrote nothing; what holds files stays."""
    for made in (folder, folder.parent):
        with suppress(OSError):
            made.rmdir()


def make_place(file: Path) -> None:
    """Make the folder of a file that results will go to, likewise.

    Raises:
        DataError: the file cannot be written.
    """
    make_folder(file.parent)
    if file.is_dir():
        raise DataError(f"{file} is a folder, wanted a file to write: name one with --out")


def write_answers(folder: Path, answered: Sequence[Answered]) -> None:
    """Write predictions.jsonl and remove what an earlier evaluation says of other predictions.

    Raises:
        DataError: nothing can be written to the folder.
    """
    make_folder(folder)
    for name in (SCORES_FILE, UNSCORED_FILE):
        (folder / name).unlink(missing_ok=True)
    lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in answered]
    write_file(folder / PREDICTIONS_FILE, "".join(lines))


def summary_file(folder: Path) -> Path:
    """The folder's unscored.json if it has that, else its scores.json, which it may lack."""
    unscored = folder / UNSCORED_FILE
    return unscored if unscored.is_file() else folder / SCORES_FILE


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write predictions.jsonl and, last, scores.json; each appears whole or not at all.

    Raises:
        DataError: nothing can be written to the folder.
    """
    write_answers(folder, evaluation.answered)
    summary = {name: value for name, value in vars(evaluation).items() if name != "answered"} | {
        "counts": {"scored": len(evaluation.answered), "skipped": len(evaluation.skipped)},
        "scores": {name: asdict(score) for name, score in evaluation.scores.items()},
        "breakdowns": {
            name: [asdict(group) for group in groups]
            for name, groups in evaluation.breakdowns.items()
        },
    }
    name = SCORES_FILE if evaluation.scores else UNSCORED_FILE
    write_file(folder / name, json.dumps(summary, ensure_ascii=False, indent=1) + "\n")


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation that `write_evaluation` put into `folder`.

    Raises:
        MissingFileError: there is none.
        MalformedFileError: the files are not what `write_evaluation` writes.
    """
    try:
        summary = json.loads(summary_file(folder).read_text(encoding="utf-8"))
        lines = (folder / PREDICTIONS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
        answered = tuple(_answered(json.loads(line)) for line in lines)
        return _from_summary(summary, answered)
    except OSError as error:
        if below := sorted((folder / "eval").glob(f"*/{PREDICTIONS_FILE}")):
            named = ", ".join(str(file.parent) for file in below)
            raise MissingFileError(
                f"{folder} is a run, wanted one of its evaluations: {named}"
            ) from error
        raise MissingFileError(
            f"{folder} holds no evaluation ({Path(error.filename).name}: {error.strerror}): "
            "run `epalm-eval` first"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedFileError(
            f"the evaluation in {folder} cannot be read ({error!r}): run `epalm-eval` again"
        ) from error


def _from_summary(summary: dict[str, Any], answered: tuple[Answered, ...]) -> Evaluation:
    del summary["counts"]
    scores = {name: Score(**score) for name, score in summary.pop("scores").items()}
    breakdowns = {
        name: tuple(GroupMean(**group) for group in groups)
        for name, groups in summary.pop("breakdowns").items()
    }
    skipped = tuple(summary.pop("skipped"))
    return Evaluation(
        **summary, scores=scores, breakdowns=breakdowns, skipped=skipped, answered=answered
    )


def _answered(line: Mapping[str, Any]) -> Answered:
    return Answered(**{**line, "references": tuple(line["references"])})
