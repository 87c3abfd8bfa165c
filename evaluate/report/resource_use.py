"""Time and memory of each stage of a run, as far as they were recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from epalm.cache.records.extraction_log import read_extraction_log
from epalm.evaluate.report.charts.training_curves import read_records
from epalm.evaluate.scores.eval_results import Evaluation
from epalm.untrusted.checked_json import build


@dataclass(frozen=True, slots=True)
class Cost:
    """Time and memory of one stage.

    Attributes:
        seconds: wall time.
        memory: peak main memory in bytes; 0 if it was not recorded.
        device: device of the computation; empty if it was not recorded.
        device_memory: peak GPU memory in bytes; 0 without a GPU.
        note: amount of work, e.g. "794 samples"; empty if it is not known.
    """

    seconds: float
    memory: int = 0
    device: str = ""
    device_memory: int = 0
    note: str = ""


@dataclass(frozen=True)
class Costs:
    """Parameters, time and memory of one run and one evaluation.

    Attributes:
        trained: number of trained parameters.
        frozen: number of the language model's parameters.
        extraction: cost of the feature stores; None if it was not recorded.
        training: cost of training, validation included; None if it was not recorded.
        evaluation: cost of answering and scoring.
    """

    trained: int
    frozen: int
    extraction: Cost | None
    training: Cost | None
    evaluation: Cost


@dataclass(frozen=True, slots=True)
class _Spent:
    """A line of metrics.jsonl of kind "spent"."""

    step: float
    seconds: float
    memory: float
    device_memory: float


def amount(count: int, noun: str) -> str:
    """A number with its noun, for tables: "1 step", "2,000 steps"."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def extraction_cost(stores: Sequence[str]) -> Cost | None:
    """Cost of all feature stores together, from the extraction logs beside them.

    Times and samples are summed, the memory is the maximum. None if a store has no log, since the
    cost of the others alone would be too low.
    """
    logs = [read_extraction_log(store) for store in stores]
    work = [log for log in logs if log is not None]
    if not work or len(work) < len(logs):
        return None
    return Cost(
        sum(log.seconds for log in work),
        max(log.memory for log in work),
        ", ".join(dict.fromkeys(log.device for log in work)),
        max(log.device_memory for log in work),
        amount(sum(log.encoded for log in work), "sample"),
    )


def training_cost(metrics_file: Path) -> Cost | None:
    """Cost of training, from the lines of kind "spent" in metrics.jsonl.

    Raises:
        MalformedFileError: a line lacks a number.
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
    """Cost of answering and scoring, from the evaluation itself."""
    noun = "caption" if evaluation.kind == "caption" else "question"
    return Cost(
        evaluation.seconds,
        evaluation.memory,
        evaluation.device,
        evaluation.device_memory,
        note=amount(len(evaluation.predictions), noun),
    )
