"""One HTML file about one or several runs: scores, curves, examples, settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from epalm import __version__
from epalm.cache.durable import write_file
from epalm.errors import UsageError
from epalm.evaluate.curves import LINE_COLOURS, Curve, draw, read_curve
from epalm.evaluate.gallery import GROUPS, gallery_cards, shown_metric
from epalm.evaluate.records import Evaluation, Score
from epalm.tasks.records import MediaItem

GROUPS_AT_MOST = 24
"""Rows of a break-down; VQA v2 has 65 question types."""


@dataclass(frozen=True)
class ReportData:
    """What a report is made from.

    Attributes:
        title: the page's heading.
        evaluations: one column each, all of one task and split; the gallery is chosen by the last.
        lead: a sentence or two below the heading, e.g. how large the language model is.
        media: key -> medium, for the gallery; cards of media it lacks show text alone.
        metrics_files: each evaluation's metrics.jsonl, in their order; empty for no curves. Files
            that do not exist are passed over.
    """

    title: str
    evaluations: tuple[Evaluation, ...]
    lead: str = ""
    media: Mapping[str, MediaItem] = field(default_factory=dict, repr=False)
    metrics_files: tuple[Path, ...] = ()


def write_report(path: Path, data: ReportData) -> None:
    """Write a page that shows everything without any other file and without a network.

    Raises:
        UsageError: no evaluations, or evaluations of different tasks or splits.
        MalformedFileError: a metrics.jsonl that is none.
    """
    _check_comparable(data.evaluations)
    environment = Environment(
        loader=PackageLoader("epalm.evaluate"), autoescape=True, trim_blocks=False
    )
    page = environment.get_template("report.html.j2").render(_context(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, page)


def label(name: str) -> str:
    """A metric's name as people read it: "exact match"."""
    return name.replace("_", " ")


def percent(value: float) -> str:
    """A score as papers print it, times 100 with two decimals."""
    return f"{100 * value:.2f}"


def interval(score: Score) -> str:
    """The score's interval as text; empty if it has none."""
    if score.low is None or score.high is None:
        return ""
    return f"{percent(score.low)} to {percent(score.high)}"


def _check_comparable(evaluations: Sequence[Evaluation]) -> None:
    tasks = {(one.task, one.split, one.headline) for one in evaluations}
    if len(tasks) != 1:
        found = ", ".join(sorted(f"{task} {split} ({name})" for task, split, name in tasks))
        raise UsageError(
            f"a report compares runs on one task and split, found {found or 'no evaluation'}"
        )


def _context(data: ReportData) -> dict[str, Any]:
    last = data.evaluations[-1]
    cards = gallery_cards(data.evaluations, data.media)
    groups = {name: sum(card.group == name for card in cards) for name in GROUPS}
    return {
        "title": data.title,
        "lead": data.lead,
        "version": __version__,
        "runs": [one.run for one in data.evaluations],
        "facts": _facts(last),
        "warnings": _warnings(data.evaluations),
        "headline": _headline(data.evaluations),
        "score_rows": _score_rows(data.evaluations),
        "charts": _charts(data),
        "breakdowns": _breakdowns(data.evaluations),
        "cards": cards,
        "cards_note": _cards_note(last),
        "card_groups": [("all", len(cards)), *groups.items()],
        "several_sentences": last.kind == "caption",
        "setting_rows": _setting_rows([one.settings for one in data.evaluations]),
    }


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    noun = "captions" if evaluation.kind == "caption" else "questions"
    return [
        ("task", evaluation.task),
        ("split", evaluation.split),
        (noun, f"{len(evaluation.answered):,}"),
    ]


def _warnings(evaluations: Sequence[Evaluation]) -> list[str]:
    warnings = []
    for one in evaluations:
        prefix = f"{one.run}: " if len(evaluations) > 1 else ""
        if one.blind:
            warnings.append(f"{prefix}blind control, each question saw another medium")
        if one.skipped:
            warnings.append(f"{prefix}{len(one.skipped):,} skipped, their media are not encoded")
    return warnings


def _headline(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The bars: lengths in per cent of the longest possible, or of the highest score above it."""
    name = evaluations[-1].headline
    scores = [one.scores[name] for one in evaluations]
    full = max(1.0, *(score.high or score.value for score in scores))
    rows = []
    for number, (one, score) in enumerate(zip(evaluations, scores, strict=True)):
        low, high = (score.low or 0.0), (score.high or 0.0)
        rows.append(
            {
                "run": one.run,
                "colour": LINE_COLOURS[number % len(LINE_COLOURS)],
                "value": percent(score.value),
                "range": interval(score),
                "width": f"{100 * score.value / full:.2f}",
                "left": f"{100 * low / full:.2f}",
                "span": f"{100 * (high - low) / full:.2f}",
            }
        )
    return {"name": label(name), "rows": rows}


def _score_rows(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    rows = []
    for name in evaluations[-1].scores:
        found = [one.scores.get(name) for one in evaluations]
        top = max(score.value for score in found if score)
        cells = [
            {
                "value": percent(score.value) if score else "-",
                "range": interval(score) if score else "",
                "best": len(found) > 1 and score is not None and score.value == top,
            }
            for score in found
        ]
        rows.append({"name": label(name), "cells": cells})
    return rows


def _charts(data: ReportData) -> list[dict[str, Any]]:
    headline = data.evaluations[-1].headline
    wanted = (
        ("Training loss", "train", "loss", False),
        (f"Validation {label(headline)}, times 100", "val", headline, True),
    )
    charts = []
    for title, kind, metric, scaled in wanted:
        curves = _curves(data, kind=kind, metric=metric)
        if any(curves):
            svg = Markup(draw(curves, title=title, axis=label(metric), percent=scaled))
            charts.append({"title": title, "svg": svg})
    return charts


def _curves(data: ReportData, *, kind: str, metric: str) -> list[Curve | None]:
    return [read_curve(file, kind=kind, metric=metric) for file in data.metrics_files]


def _breakdowns(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    tables = []
    for name, groups in evaluations[-1].breakdowns.items():
        means = [
            {group.name: group.mean for group in one.breakdowns.get(name, ())}
            for one in evaluations
        ]
        rows = [
            {
                "name": group.name,
                "count": f"{group.count:,}",
                "cells": [
                    percent(known[group.name]) if group.name in known else "-" for known in means
                ],
            }
            for group in groups[:GROUPS_AT_MOST]
        ]
        tables.append({"name": name, "rows": rows, "left_out": len(groups[GROUPS_AT_MOST:])})
    return tables


def _cards_note(evaluation: Evaluation) -> str:
    return (
        f"The best and the worst by {label(shown_metric(evaluation))}, and a random sample, which "
        "alone says what to expect. Scores are multiplied by 100."
    )


def _setting_rows(settings: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(name for one in settings for name in one))
    return [{"name": name, "cells": [one.get(name, "-") for one in settings]} for name in names]
