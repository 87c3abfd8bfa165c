"""What each stage of a run took, as far as it left a record."""

from dataclasses import dataclass
from pathlib import Path

from epalm.cache.records.extraction_log import read_extraction_log
from epalm.evaluate.report.training_curves import read_records
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.untrusted.checked_json import build


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one stage.

    Attributes:
        seconds: wall time.
        memory: bytes of main memory at most; 0 if nobody noted them.
        device: that computed; empty likewise.
        device_memory: bytes on a GPU at most; 0 without one.
        note: e.g. "794 media"; empty for none.
    """

    seconds: float
    memory: int = 0
    device: str = ""
    device_memory: int = 0
    note: str = ""


@dataclass(frozen=True)
class Costs:
    """Of one run and one evaluation; None for stages without a record.

    Attributes:
        trained: number of trained parameters.
        frozen: number of the language model's.
        extraction: making the store.
        training: with its validations.
        evaluation: answering and scoring.
    """

    trained: int
    frozen: int
    extraction: Cost | None
    training: Cost | None
    evaluation: Cost


@dataclass(frozen=True, slots=True)
class _Spent:
    """A line of kind "spent"."""

    step: float
    seconds: float
    memory: float
    device_memory: float


def amount(count: int, noun: str) -> str:
    """So many things, for tables: "1 step", "2,000 steps"."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def extraction_cost(features: str) -> Cost | None:
    """Of the store, from the log beside it."""
    work = read_extraction_log(features)
    if work is None:
        return None
    note = f"{work.encoded:,} media"
    return Cost(work.seconds, work.memory, work.device, work.device_memory, note)


def training_cost(metrics_file: Path) -> Cost | None:
    """Of the run, from the lines of kind "spent".

    Raises:
        MalformedFileError: one of them lacks a number.
    """
    lines = [
        build(_Spent, line, f"{metrics_file}: a line of kind spent")
        for line in read_records(metrics_file)
        if line["kind"] == "spent"
    ]
    if not lines:
        return None
    return Cost(
        seconds=lines[-1].seconds,
        memory=int(max(line.memory for line in lines)),
        device_memory=int(max(line.device_memory for line in lines)),
        note=amount(int(lines[-1].step), "step"),
    )


def evaluation_cost(evaluation: Evaluation) -> Cost:
    """Of answering and scoring, from the evaluation itself."""
    noun = "caption" if evaluation.kind == "caption" else "question"
    return Cost(
        evaluation.seconds,
        evaluation.memory,
        evaluation.device,
        evaluation.device_memory,
        note=amount(len(evaluation.answered), noun),
    )
