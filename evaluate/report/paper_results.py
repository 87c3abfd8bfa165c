"""Published figures by task, to stand beside one's own.

They lie in paper_results.csv, values as printed, times 100. Sources: Shukor, Dancette, Cord,
"eP-ALM: Efficient Perceptual Augmentation of Language Models", arXiv 2303.11403, by table or
figure, and the README of its code; "DePALM" is the table of results of Vallaeys, Shukor, Cord,
Verbeek, "Improved Baselines for Data-efficient Perceptual Augmentation of LLMs", arXiv 2403.13499.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

OWN = "eP-ALM"
"""Whose figures those of the method and of its authors' baselines are."""


@dataclass(frozen=True, slots=True)
class PaperResult:
    """One figure.

    Attributes:
        whose: OWN or "others".
        method: as the paper calls it, with the models where it says them.
        metric: the key of `Evaluation.scores` that measures the same.
        value: times 100.
        on: the split, and what else was special.
        source: where it stands.
    """

    whose: str
    method: str
    metric: str
    value: float
    on: str
    source: str


@cache
def published_figures() -> dict[str, tuple[PaperResult, ...]]:
    """Task -> its figures: those of eP-ALM, the strongest of the headline first, then others."""
    found: dict[str, list[PaperResult]] = {}
    with files(__package__).joinpath("paper_results.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            figure = PaperResult(
                row["whose"],
                row["method"],
                row["metric"],
                float(row["value"]),
                row["on"],
                row["source"],
            )
            found.setdefault(row["task"], []).append(figure)
    return {task: tuple(figures) for task, figures in found.items()}


def published(task: str) -> tuple[PaperResult, ...]:
    """The task's figures; none for a task of one's own."""
    return published_figures().get(task, ())
