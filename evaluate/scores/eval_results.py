"""What an evaluation found, and its two files: scores.json and predictions.jsonl.

Where a split's answers are not published, unscored.json stands in place of scores.json.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryFile

from epalm.atomic_write import write_file
from epalm.errors import DataError, MalformedFileError, MissingFileError
from epalm.metrics.intervals import GroupMean
from epalm.tasks.types import Kind
from epalm.untrusted.checked_json import build, read_json, read_json_lines

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
class PredictionRecord:
    """One example, what was generated for it and how that scores.

    Attributes:
        id: the question's id, unique in the split.
        key: the medium's.
        prompt: the question; empty for captioning.
        prediction: the generated text.
        references: what it was scored against.
        scores: metric -> score of this example alone.
        question_type: its group, see `epalm.evaluate.scores.breakdowns`; empty for captions.
        answer_type: likewise.
        log_probability: see `epalm.model.generation.batched_generation.Answer`, as the next; None
            in files of earlier versions.
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

    @property
    def confidence(self) -> float | None:
        """The probability of the prediction under the model; None in files of earlier versions."""
        if self.log_probability is None:
            return None
        return math.exp(min(self.log_probability, 0.0))


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
    answered: tuple[PredictionRecord, ...] = field(repr=False)
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

    @property
    def example_metric(self) -> str:
        """The metric of single examples: the headline if it has one, else the first that does."""
        per_example = self.answered[0].scores
        return self.headline if self.headline in per_example else next(iter(per_example))


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


def ensure_writable(file: Path) -> None:
    """Make the folder of a file that results will go to, likewise.

    Raises:
        DataError: the file cannot be written.
    """
    make_folder(file.parent)
    if file.is_dir():
        raise DataError(f"{file} is a folder, wanted a file to write: name one with --out")


def write_answers(folder: Path, answered: Sequence[PredictionRecord]) -> None:
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
        evaluation = _read(folder)
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
    except MalformedFileError as error:
        reason = str(error).replace(f"{folder}/", "")
        raise MalformedFileError(
            f"the evaluation in {folder} cannot be read ({reason}): run `epalm-eval` again"
        ) from error
    return evaluation


def _read(folder: Path) -> Evaluation:
    file, lines = summary_file(folder), folder / PREDICTIONS_FILE
    summary = read_json(file)
    answered = tuple(
        build(PredictionRecord, value, place) for place, value in read_json_lines(lines)
    )
    members = summary | {"answered": []} if isinstance(summary, dict) else summary
    found = replace(build(Evaluation, members, str(file)), answered=answered)
    counted = build(_Counted, summary, str(file)).counts
    if len(answered) != counted.scored:
        raise MalformedFileError(
            f"{lines} holds {len(answered)} answers, {file.name} tells of {counted.scored}"
        )
    _check_ids(lines, answered)
    if found.scores:
        _check_scores(file, found)
    return found


def _check_ids(lines: Path, answered: Sequence[PredictionRecord]) -> None:
    times = Counter(one.id for one in answered)
    twice = next((name for name, count in times.items() if count > 1), None)
    if twice is not None:
        raise MalformedFileError(f"{lines} holds the id {twice} {times[twice]} times, wanted once")


def _check_scores(file: Path, found: Evaluation) -> None:
    """Check what tables and pages rely on, of an evaluation that has scores."""
    if found.headline not in found.scores:
        raise MalformedFileError(f"{file}.scores has no {found.headline!r}, its headline")
    names = found.answered[0].scores.keys() if found.answered else set()
    if not names:
        raise MalformedFileError(f"{PREDICTIONS_FILE} holds no scores, {file.name} does")
    for one in found.answered:
        if one.scores.keys() != names:
            raise MalformedFileError(f"{PREDICTIONS_FILE}: {one.id} has other scores than the rest")
        if not one.references:
            raise MalformedFileError(f"{PREDICTIONS_FILE}: {one.id} has scores, but no references")


@dataclass(frozen=True)
class _Counts:
    scored: int


@dataclass(frozen=True)
class _Counted:
    """The part of scores.json that is no field of an evaluation."""

    counts: _Counts
