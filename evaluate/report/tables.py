"""Scores, differences, breakdowns, costs and settings as rows and columns of text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from epalm.console import byte_size, duration
from epalm.evaluate.report.resource_use import Cost, Costs, amount
from epalm.evaluate.scores.compare_runs import Difference, best_of, difference
from epalm.evaluate.scores.eval_results import Evaluation, Score
from epalm.metrics.intervals import known_interval
from epalm.model.checkpoints.validation_figures import IMAGE_GAIN, IMAGE_GAIN_INTERVAL, LOSS

MAX_GROUPS = 24
"""Maximum number of rows of a breakdown; VQA v2 has 65 question types."""

MAX_QUOTED = 24
"""Maximum number of characters of an answer in a table."""

UNKNOWN = "not recorded"

DISTINCT = "distinct answers"

BREAKDOWN_TITLES = {"first words": "question prefix", "form of answer": "answer type"}
"""Name of a breakdown in scores.json -> its name in reports, where they differ."""


def label(name: str) -> str:
    """The name of a metric in words: "exact match"."""
    return name.replace("_", " ")


def percent(value: float) -> str:
    """A score as papers print it, times 100 with two decimals."""
    return f"{100 * value:.2f}"


def interval(score: Score) -> str:
    """The interval of a score as text; empty if the score has none.

    Files of earlier versions have intervals of zero width.
    """
    if score.low is None or score.high is None or not known_interval(score.low, score.high):
        return ""
    return f"{percent(score.low)} to {percent(score.high)}"


def signed(value: float) -> str:
    """A difference of scores, times 100 with two decimals and its sign."""
    return f"{100 * value:+.2f}"


def probability(p: float) -> str:
    """A p-value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def example_count(evaluation: Evaluation) -> str:
    """Number of evaluated examples: "150 questions", "first 40 of 150 questions"."""
    noun = "caption" if evaluation.kind == "caption" else "question"
    count, size = evaluation.example_count, evaluation.split_size
    return f"first {count:,} of {amount(size, noun)}" if count < size else amount(count, noun)


def score_cells(score: Score, *, full: float) -> dict[str, Any]:
    """The headline score and the geometry of its bar, in percent of `full`."""
    low, high = (score.low or 0.0), (score.high or 0.0)
    return {
        "value": percent(score.value),
        "range": interval(score),
        "width": f"{100 * score.value / full:.2f}",
        "left": f"{100 * low / full:.2f}",
        "span": f"{100 * (high - low) / full:.2f}",
    }


def score_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Every score of the last evaluation, beside those of the others; see `best_of`."""
    rows, best = [], best_of(evaluations)
    headline = evaluations[-1].headline
    for name in evaluations[-1].scores:
        scores = [evaluation.scores.get(name) for evaluation in evaluations]
        cells = [
            {
                "value": percent(score.value) if score else "-",
                "range": interval(score) if score else "",
                "best": name == headline and column == best,
            }
            for column, score in enumerate(scores)
        ]
        rows.append({"name": label(name), "cells": cells})
    return rows


def gain_rows(validations: Sequence[Mapping[str, float] | None]) -> list[dict[str, Any]]:
    """Loss and image gain in validation, in nats per token; without rows that no run has.

    Args:
        validations: figures of the kept weights of each run, see `best_validation`; None without.
    """
    rows = []
    for name, title in ((LOSS, "validation loss"), (IMAGE_GAIN, "image gain")):
        cells = []
        for figures in validations:
            known = figures is not None and name in figures
            value = f"{figures[name]:.4f}" if figures and known else "-"
            span = [figures[end] for end in IMAGE_GAIN_INTERVAL if figures and end in figures]
            ends = " to ".join(f"{end:.4f}" for end in span) if name == IMAGE_GAIN else ""
            cells.append({"value": value, "range": ends})
        if any(cell["value"] != "-" for cell in cells):
            rows.append({"name": title, "cells": cells})
    return rows


def distinct_row(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """A row like those of `score_rows`: number of distinct answers, and the most frequent one."""
    cells = []
    for evaluation in evaluations:
        counts = Counter(record.prediction for record in evaluation.predictions)
        total = len(evaluation.predictions)
        ((top, times),) = counts.most_common(1)
        quoted = f"“{shortened_text(top)}”" if top else "the empty answer"
        often = f"{quoted} {100 * times / total:.0f} %"
        value = f"{len(counts):,} of {total:,}"
        cells.append({"value": value, "range": often, "best": False, "words": True})
    return {"name": DISTINCT, "cells": cells}


def shortened_text(text: str) -> str:
    """A text of about `MAX_QUOTED` characters at most, cut between words where it has any."""
    if len(text) <= MAX_QUOTED:
        return text
    start = text[: MAX_QUOTED + 1]
    return f"{start.rpartition(' ')[0] or start[:-1]} ..."


def difference_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, str]]:
    """Difference of each other evaluation's headline to that of the first."""
    first, *others = evaluations
    return [
        {"run": evaluation.run} | difference_cells(difference(evaluation, first))
        for evaluation in others
    ]


def difference_cells(paired: Difference | None) -> dict[str, str]:
    """Cells of a paired difference; dashes if the evaluations cannot be compared."""
    if paired is None:
        return {"value": "-", "range": "other questions", "p": "-"}
    ends = [signed(end) for end in (paired.low, paired.high) if end is not None]
    return {
        "value": signed(paired.value),
        "range": " to ".join(ends) or "-",
        "p": probability(paired.p),
    }


def breakdown_tables(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Mean headline score per group, largest groups first; bars show the last evaluation."""
    tables = []
    for name, groups in evaluations[-1].breakdowns.items():
        means = [
            {group.name: group.mean for group in evaluation.breakdowns.get(name, ())}
            for evaluation in evaluations
        ]
        rows = [
            {
                "name": group.name,
                "count": f"{group.count:,}",
                "width": f"{100 * min(group.mean, 1.0):.1f}",
                "cells": [
                    percent(known[group.name]) if group.name in known else "-" for known in means
                ],
            }
            for group in groups[:MAX_GROUPS]
        ]
        title = BREAKDOWN_TITLES.get(name, name)
        tables.append({"name": title, "rows": rows, "omitted": len(groups[MAX_GROUPS:])})
    return tables


def cost_rows(costs: Sequence[Costs]) -> list[dict[str, Any]]:
    """Trained parameters, then time and memory of each stage, with a cell per run."""
    if not costs:
        return []
    stages: dict[str, list[Cost | None]] = {
        "extraction": [run.extraction for run in costs],
        "training": [run.training for run in costs],
        "evaluation": [run.evaluation for run in costs],
    }
    fractions = [100 * run.trained / (run.trained + run.frozen) for run in costs]
    trained = [
        {
            "main": f"{run.trained:,}",
            "more": f"{fraction:.4f} % of language model and adapter",
        }
        for run, fraction in zip(costs, fractions, strict=True)
    ]
    times = [
        {"name": name, "cells": [cost_cell(cost) for cost in stage]}
        for name, stage in stages.items()
    ]
    return [{"name": "trained parameters", "cells": trained}, *times]


def cost_cell(cost: Cost | None) -> dict[str, str]:
    """The time of a stage, with its other recorded costs."""
    if cost is None:
        return {"main": UNKNOWN, "more": ""}
    known = [
        cost.note,
        f"{byte_size(cost.memory)} of main memory" if cost.memory else "",
        f"{byte_size(cost.device_memory)} on the GPU" if cost.device_memory else "",
        f"on {cost.device}" if cost.device else "",
    ]
    return {"main": duration(cost.seconds), "more": ", ".join(part for part in known if part)}


def setting_rows(settings: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Every setting of any run, with a cell per run."""
    names = list(dict.fromkeys(name for run_settings in settings for name in run_settings))
    return [
        {"name": name, "cells": [run_settings.get(name, "-") for run_settings in settings]}
        for name in names
    ]
