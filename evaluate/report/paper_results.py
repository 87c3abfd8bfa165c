"""Published results by task, for comparison with one's own.

They are in paper_results.csv, as printed, times 100. Sources: Shukor, Dancette, Cord,
"eP-ALM: Efficient Perceptual Augmentation of Language Models", arXiv 2303.11403, by table or
figure, and the README of its code; "DePALM" is the table of results of Vallaeys, Shukor, Cord,
Verbeek, "Improved Baselines for Data-efficient Perceptual Augmentation of LLMs", arXiv 2403.13499.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

OWN = "eP-ALM"
"""Origin of the results of the method and of its authors' baselines."""


@dataclass(frozen=True, slots=True)
class PaperResult:
    """One published result.

    Attributes:
        whose: OWN or "others".
        method: name of the method in the paper, with the models if the paper names them.
        metric: key of `Evaluation.scores` for the same metric.
        value: score times 100.
        on: split, and other conditions.
        source: table or figure of the paper.
    """

    whose: str
    method: str
    metric: str
    value: float
    on: str
    source: str


@cache
def published_results() -> dict[str, tuple[PaperResult, ...]]:
    """Results by task: those of eP-ALM, the best headline score first, then other methods."""
    results: dict[str, list[PaperResult]] = {}
    with files(__package__).joinpath("paper_results.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            result = PaperResult(
                row["whose"],
                row["method"],
                row["metric"],
                float(row["value"]),
                row["on"],
                row["source"],
            )
            results.setdefault(row["task"], []).append(result)
    return {task: tuple(of_task) for task, of_task in results.items()}


def published(task: str) -> tuple[PaperResult, ...]:
    """Published results on a task; empty if there are none."""
    return published_results().get(task, ())
