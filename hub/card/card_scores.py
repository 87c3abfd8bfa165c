"""The scores that a model card shows, from the files of a run's evaluations and its training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from epalm.model.checkpoints.run_record import METRICS_FILE
from epalm.model.checkpoints.validation_figures import quality, selecting_figure
from epalm.untrusted.checked_json import build, parse_json, read_json

SCORES_FILE = "scores.json"

BLIND = "-blind"
"""Suffix of the folder of a blind control, and `_blind` that of a run trained blind."""


@dataclass(frozen=True)
class CardScore:
    """A score as a fraction, and its 95 % interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CardEvaluation:
    """The part of a scores.json that a model card shows.

    Attributes:
        task: name of the task.
        split: name of the split.
        headline: key of `scores` of the main metric.
        scores: score of each metric.
        fingerprint: settings of the store; "dataset" names the data.
        blind: whether each example got the features of another sample.
    """

    task: str
    split: str
    headline: str
    scores: dict[str, CardScore]
    fingerprint: dict[str, str]
    blind: bool

    @property
    def dataset(self) -> str:
        """Name of the data."""
        return self.fingerprint.get("dataset", "")


@dataclass(frozen=True)
class ShownEvaluation:
    """An evaluation of a run, with that of its blind control if there is one.

    Attributes:
        name: name of the evaluation's folder, e.g. "val-beams3".
        result: scores of the run.
        control: scores of the blind control on the same examples.
    """

    name: str
    result: CardEvaluation
    control: CardEvaluation | None


def shown_evaluations(run: Path) -> list[ShownEvaluation]:
    """The scored evaluations of a run by name; one with a control of its own is no control.

    Raises:
        MalformedFileError: a scores.json is damaged.
    """
    files = sorted((run / "eval").glob(f"*/{SCORES_FILE}"))
    results = {file.parent.name: _read(file) for file in files}
    trained_blind = run.with_name(f"{run.name}_blind") / "eval"
    shown = []
    for name, result in results.items():
        if result.blind and name.removesuffix(BLIND) in results.keys() - {name}:
            continue  # it is shown beside its evaluation
        other = trained_blind / (name + BLIND) / SCORES_FILE
        control = _read(other) if other.is_file() else results.get(name + BLIND)
        shown.append(ShownEvaluation(name, result, None if result.blind else control))
    return shown


def _read(file: Path) -> CardEvaluation:
    return build(CardEvaluation, read_json(file), str(file))


@dataclass(frozen=True)
class TrainingSummary:
    """The best validation score of a run, and the time it took.

    Attributes:
        metric: metric or other figure that selected the epoch.
        score: best value, a fraction or, for those in `IN_NATS`, nats per token.
        epoch: the epoch that reached it, counted from 1.
        seconds: wall time of the training; 0 if it is unknown.
    """

    metric: str
    score: float
    epoch: int
    seconds: float


def training_summary(run: Path) -> TrainingSummary | None:
    """What metrics.jsonl says about a run; None before its first validation.

    Raises:
        MalformedFileError: a line is not JSON.
    """
    best: TrainingSummary | None = None
    seconds = 0.0
    for record in _records(run / METRICS_FILE):
        if record.get("kind") == "spent":
            seconds = _number(record.get("seconds"))
        elif record.get("kind") == "val":
            name = selecting_figure(record)
            score = _number(record.get(name)) if name else math.nan
            if quality(name or "", score) > (
                quality(best.metric, best.score) if best else -math.inf
            ):
                best = TrainingSummary(name or "", score, round(_number(record.get("epoch"))), 0)
    if best is None:
        return None
    return TrainingSummary(best.metric, best.score, best.epoch, seconds)


def validated_epochs(run: Path) -> int:
    """Number of the last epoch that was validated; 0 before the first.

    Raises:
        MalformedFileError: a line of metrics.jsonl is not JSON.
    """
    records = _records(run / METRICS_FILE)
    epochs = (_number(record.get("epoch")) for record in records if record.get("kind") == "val")
    return round(max(epochs, default=0))


def _records(file: Path) -> Iterator[dict[str, object]]:
    """The lines of a metrics.jsonl; the rest after the last line break is still being written."""
    if not file.is_file():
        return
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], start=1):
        record = parse_json(line, f"{file}: line {number}")
        if isinstance(record, dict):
            yield record


def _number(value: object) -> float:
    """A finite number, or 0 for anything else."""
    usable = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if usable and isinstance(value, int | float) else 0.0
