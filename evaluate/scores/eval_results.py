"""The result of an evaluation and its two files: scores.json and predictions.jsonl.

For a split without published answers, unscored.json takes the place of scores.json.
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
from epalm.portable_path import from_portable, to_portable
from epalm.tasks.types import Kind
from epalm.untrusted.checked_json import build, read_json, read_json_lines

SCORES_FILE = "scores.json"
UNSCORED_FILE = "unscored.json"
PREDICTIONS_FILE = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Score:
    """A corpus score as a fraction, with a 95 % interval if it is a mean over examples."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """The prediction for one example, with its scores.

    Attributes:
        id: id of the question, unique in the split.
        key: key of the sample.
        prompt: the question; empty for captioning.
        prediction: the generated text, or the highest-ranked answer.
        references: reference answers or captions.
        scores: score of this example for each metric.
        question_type: group of the question, see `epalm.evaluate.scores.breakdowns`; empty for
            captions.
        answer_type: group of the answer; empty for captions.
        log_probability: natural logarithm of the probability of the prediction, see
            `epalm.model.generation.batched_generation.Answer`; None in files of earlier versions.
        tokens: number of tokens of the prediction; 0 in files of earlier versions.
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
        run: name of the run, the column heading in reports.
        task: name of the task.
        kind: "qa" or "caption".
        split: name of the split.
        blind: whether each example got the features of another sample.
        headline: key of `scores` of the main metric; empty if nothing could be scored.
        scores: score of each metric; empty if no example has a reference.
        breakdowns: mean headline score per group, for groupings such as "question type".
        settings: settings of training and evaluation in words.
        fingerprint: every setting that could change the stored features.
        skipped: ids of questions that were skipped because their samples could not be encoded.
        seconds: wall time of answering and scoring.
        predictions: the prediction for each example, in the order of the split.
        features: path or URL of the first store; empty in files of earlier versions.
        joined: paths or URLs of further stores.
        data_root: folder of the task's files; empty in files of earlier versions.
        device: device of the computation; empty in files of earlier versions.
        memory: peak main memory in bytes; 0 in files of earlier versions.
        device_memory: peak GPU memory in bytes; 0 without a GPU.
        left_out: reason for each score that could not be computed.
        split_size: number of examples in the whole split; 0 in files of earlier versions.
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
    predictions: tuple[PredictionRecord, ...] = field(repr=False)
    features: str = ""
    data_root: str = ""
    device: str = ""
    memory: int = 0
    device_memory: int = 0
    left_out: dict[str, str] = field(default_factory=dict)
    split_size: int = 0
    joined: tuple[str, ...] = ()

    @property
    def example_count(self) -> int:
        """Number of evaluated examples, those that were skipped included."""
        return len(self.predictions) + len(self.skipped)

    @property
    def example_metric(self) -> str:
        """Metric of single examples: the headline if examples have it, else the first they have."""
        per_example = self.predictions[0].scores
        return self.headline if self.headline in per_example else next(iter(per_example))


def make_folder(folder: Path) -> None:
    """Make a folder for results before they are computed, unless it exists.

    Raises:
        DataError: the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"nothing can be written to {folder} ({error.strerror}): expected a writable folder; "
            "remove what is in its place, or choose another"
        ) from error


def remove_empty(folder: Path) -> None:
    """Undo `make_folder` of an evaluation that wrote nothing; folders with files stay."""
    for made in (folder, folder.parent):
        with suppress(OSError):
            made.rmdir()


def ensure_writable(file: Path) -> None:
    """Make the folder of a file for results before they are computed, unless it exists.

    Raises:
        DataError: the file cannot be written.
    """
    make_folder(file.parent)
    if file.is_dir():
        raise DataError(f"{file} is a folder, expected a file: give one with --out")


def write_predictions(folder: Path, records: Sequence[PredictionRecord]) -> None:
    """Write predictions.jsonl and remove the scores of earlier predictions.

    Raises:
        DataError: the folder is not writable.
    """
    make_folder(folder)
    for name in (SCORES_FILE, UNSCORED_FILE):
        (folder / name).unlink(missing_ok=True)
    lines = [json.dumps(asdict(record), ensure_ascii=False) + "\n" for record in records]
    write_file(folder / PREDICTIONS_FILE, "".join(lines))


def summary_file(folder: Path) -> Path:
    """The folder's unscored.json if it exists, else its scores.json, which may not exist."""
    unscored = folder / UNSCORED_FILE
    return unscored if unscored.is_file() else folder / SCORES_FILE


def write_evaluation(folder: Path, evaluation: Evaluation) -> None:
    """Write predictions.jsonl and, last, scores.json, each atomically.

    Raises:
        DataError: the folder is not writable.
    """
    write_predictions(folder, evaluation.predictions)
    portable = replace(
        evaluation,
        features=to_portable(evaluation.features, folder),
        joined=tuple(to_portable(store, folder) for store in evaluation.joined),
        data_root=to_portable(evaluation.data_root, folder),
    )
    summary = {name: value for name, value in vars(portable).items() if name != "predictions"} | {
        "counts": {"scored": len(evaluation.predictions), "skipped": len(evaluation.skipped)},
        "scores": {name: asdict(score) for name, score in evaluation.scores.items()},
        "breakdowns": {
            name: [asdict(group) for group in groups]
            for name, groups in evaluation.breakdowns.items()
        },
    }
    name = SCORES_FILE if evaluation.scores else UNSCORED_FILE
    write_file(folder / name, json.dumps(summary, ensure_ascii=False, indent=1) + "\n")


def read_evaluation(folder: Path) -> Evaluation:
    """Read the evaluation that `write_evaluation` wrote to `folder`.

    Raises:
        MissingFileError: the folder has no evaluation.
        MalformedFileError: the files are not what `write_evaluation` writes.
    """
    try:
        evaluation = _read(folder)
    except OSError as error:
        if below := sorted((folder / "eval").glob(f"*/{PREDICTIONS_FILE}")):
            names = ", ".join(str(file.parent) for file in below)
            raise MissingFileError(
                f"{folder} is a run, expected one of its evaluations: {names}"
            ) from error
        raise MissingFileError(
            f"{folder} has no evaluation ({Path(error.filename).name}: {error.strerror}): "
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
    predictions = tuple(
        build(PredictionRecord, value, place) for place, value in read_json_lines(lines)
    )
    members = summary | {"predictions": []} if isinstance(summary, dict) else summary
    built = build(Evaluation, members, str(file))
    evaluation = replace(
        built,
        predictions=predictions,
        features=from_portable(built.features, folder),
        joined=tuple(from_portable(store, folder) for store in built.joined),
        data_root=from_portable(built.data_root, folder),
    )
    counts = build(_Summary, summary, str(file)).counts
    if len(predictions) != counts.scored:
        raise MalformedFileError(
            f"{lines} has {len(predictions)} predictions, {file.name} counts {counts.scored}"
        )
    _check_ids(lines, predictions)
    if evaluation.scores:
        _check_scores(file, evaluation)
    return evaluation


def _check_ids(lines: Path, records: Sequence[PredictionRecord]) -> None:
    counts = Counter(record.id for record in records)
    duplicate = next((name for name, count in counts.items() if count > 1), None)
    if duplicate is not None:
        raise MalformedFileError(
            f"{lines} has the id {duplicate} {counts[duplicate]} times, expected once"
        )


def _check_scores(file: Path, evaluation: Evaluation) -> None:
    """Check the scores that tables and reports rely on."""
    if evaluation.headline not in evaluation.scores:
        raise MalformedFileError(f"{file}.scores has no {evaluation.headline!r}, its headline")
    names = evaluation.predictions[0].scores.keys() if evaluation.predictions else set()
    if not names:
        raise MalformedFileError(f"{PREDICTIONS_FILE} has no scores, {file.name} does")
    for record in evaluation.predictions:
        place = f"{PREDICTIONS_FILE}: {record.id}"
        if record.scores.keys() != names:
            raise MalformedFileError(f"{place} has other scores than the rest")
        if not record.references:
            raise MalformedFileError(f"{place} has scores, but no references")


@dataclass(frozen=True)
class _Counts:
    scored: int


@dataclass(frozen=True)
class _Summary:
    """The part of scores.json that is not a field of `Evaluation`."""

    counts: _Counts
