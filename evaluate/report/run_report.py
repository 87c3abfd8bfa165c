"""One HTML report of one or several runs: scores, curves, examples, costs, settings."""

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from epalm import __version__
from epalm.atomic_write import write_binary, write_file
from epalm.evaluate.report.charts.plots import color, line_swatch, mark_swatch, png
from epalm.evaluate.report.charts.report_charts import curve_charts, reliability_charts
from epalm.evaluate.report.gallery import GROUPS, OVER_CONFIDENT, gallery_cards
from epalm.evaluate.report.page_notes import blind_notes, facts, page_warnings
from epalm.evaluate.report.paper_results import OWN, PaperResult, published
from epalm.evaluate.report.resource_use import Costs
from epalm.evaluate.report.tables import (
    breakdown_tables,
    cost_rows,
    difference_rows,
    distinct_row,
    gain_rows,
    label,
    score_cells,
    score_rows,
    setting_rows,
)
from epalm.evaluate.scores.calibration import calibrate
from epalm.evaluate.scores.compare_runs import check_comparable
from epalm.evaluate.scores.eval_results import Evaluation, Score
from epalm.tasks.types import MediaItem

VISIBLE_RESULTS = 5
"""Number of the method's published results that are not folded away; VQA v2 has 27."""


@dataclass(frozen=True)
class ReportData:
    """The content of a report.

    Attributes:
        title: heading of the page.
        evaluations: evaluations of one task and split, a column each; the last one determines the
            gallery.
        lead: a sentence or two below the heading, e.g. about the size of the language model.
        transfer: what the run was trained on and what it was evaluated on, if they differ.
        media: sample of each key, for the gallery; a card without a sample shows text alone.
        metrics_files: metrics.jsonl of each evaluation, None for one without a curve; empty for no
            curves. Files that do not exist are skipped.
        costs: time and memory by name of the run; empty for no table.
        validations: figures of the kept weights in the run's own validation by name of the run,
            see `best_validation`; empty for no table.
    """

    title: str
    evaluations: tuple[Evaluation, ...]
    lead: str = ""
    transfer: tuple[str, str] | None = None
    media: Mapping[str, MediaItem] = field(default_factory=dict, repr=False)
    metrics_files: tuple[Path | None, ...] = ()
    costs: Mapping[str, Costs] = field(default_factory=dict)
    validations: Mapping[str, Mapping[str, float] | None] = field(default_factory=dict)


def write_report(path: Path, data: ReportData) -> None:
    """Write a self-contained HTML file, with its charts as PNG files beside it.

    Raises:
        UsageError: there are no evaluations, or they are of different tasks or splits.
        MalformedFileError: a metrics.jsonl is damaged.
    """
    check_comparable(data.evaluations)
    environment = Environment(
        loader=PackageLoader("epalm.evaluate.report"), autoescape=True, trim_blocks=False
    )
    environment.filters["label"] = label
    charts = curve_charts(data.evaluations, data.metrics_files)
    reliability = reliability_charts(data.evaluations)
    context = _context(data) | {"charts": charts, "reliability": reliability}
    context |= _script(environment) | {"contents": _contents(context)}
    page = environment.get_template("report.html.j2").render(context)
    path.parent.mkdir(parents=True, exist_ok=True)
    for chart in (*charts, *reliability):
        write_binary(path.with_name(f"{path.stem}-{chart.name}.png"), png(chart.figure))
    write_file(path, page)


def _context(data: ReportData) -> dict[str, Any]:
    last = data.evaluations[-1]
    cards = gallery_cards(data.evaluations, data.media)
    headline = _headline(data.evaluations)
    curved = zip(headline["rows"], data.metrics_files, strict=False)
    counts = {name: sum(name in card.groups for card in cards) for name in GROUPS}
    groups = {name: count for name, count in counts.items() if count}
    return {
        "title": data.title,
        "lead": data.lead,
        "version": __version__,
        "runs": [evaluation.run for evaluation in data.evaluations],
        "facts": facts(last, data.costs.get(last.run), data.transfer),
        "blind_notes": blind_notes(data.evaluations),
        "warnings": page_warnings(data.evaluations),
        "headline": headline,
        "curved": [row for row, file in curved if file],
        "gain_runs": list(data.validations),
        "gain_rows": gain_rows(list(data.validations.values())),
        "published": _published_tables(last),
        "score_rows": [*score_rows(data.evaluations), distinct_row(data.evaluations)],
        "differences": difference_rows(data.evaluations),
        "calibration": [_calibration_error(evaluation) for evaluation in data.evaluations],
        "breakdowns": breakdown_tables(data.evaluations),
        "cost_runs": list(data.costs),
        "cost_rows": cost_rows(list(data.costs.values())),
        "cards": cards,
        "has_control": any(answer.control for card in cards[:1] for answer in card.answers),
        "over_confident": any(card.badge == OVER_CONFIDENT for card in cards),
        "cards_note": _cards_note(data.evaluations, groups),
        "card_groups": [("all", len(cards)), *groups.items()],
        "card_types": sorted({name for card in cards for name in card.types}),
        "is_caption": last.kind == "caption",
        "setting_rows": setting_rows([evaluation.settings for evaluation in data.evaluations]),
    }


def _script(environment: Environment) -> dict[str, Markup]:
    """The script of the page and its hash, the only one that the page's policy lets run."""
    script = environment.get_template("report.js").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return {"script": Markup(script), "script_hash": Markup(f"sha256-{digest}")}


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and heading of each section of the page."""
    sections = (
        ("scores", "Scores", True),
        ("curves", "Training", context["charts"]),
        ("costs", "Time and memory", context["cost_rows"]),
        ("calibration", "Confidence", context["reliability"]),
        ("breakdowns", "Scores by type", context["breakdowns"]),
        ("examples", "Examples", context["cards"]),
        ("settings", "Settings", True),
    )
    return [(name, heading) for name, heading, there in sections if there]


def _published_tables(evaluation: Evaluation) -> list[tuple[str, list[PaperResult]]]:
    """Titles and rows: the first results of eP-ALM (headline first), its others, other methods."""
    results = published(evaluation.task)
    own = [result for result in results if result.whose == OWN]
    own.sort(key=lambda result: result.metric != evaluation.headline)
    others = [result for result in results if result.whose != OWN]
    tables = [
        ("Published results of eP-ALM on this task", own[:VISIBLE_RESULTS]),
        ("More results of eP-ALM", own[VISIBLE_RESULTS:]),
        ("Published results of other methods", others),
    ]
    return [(title, rows) for title, rows in tables if rows]


def _headline(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The bars of the headline: lengths in percent of a score of 1, or of the highest above it."""
    last = evaluations[-1]
    name = last.headline
    scores = [evaluation.scores[name] for evaluation in evaluations]
    results = [
        result for result in published(last.task) if (result.whose, result.metric) == (OWN, name)
    ]
    tops = [score.high or score.value for score in scores]
    full = max(1.0, *tops, *(result.value / 100 for result in results))
    rows = [
        {
            "run": evaluation.run,
            "color": color(number),
            "line": Markup(line_swatch(number)),
            "mark": Markup(mark_swatch(number)),
        }
        | score_cells(score, full=full)
        for number, (evaluation, score) in enumerate(zip(evaluations, scores, strict=True))
    ]
    paper = [
        {"run": result.method, "on": result.on} | score_cells(Score(result.value / 100), full=full)
        for result in results[:1]
    ]
    return {"name": label(name), "rows": rows, "paper": paper}


def _calibration_error(evaluation: Evaluation) -> str:
    calibration = calibrate(evaluation)
    return f"{100 * calibration.error:.2f}" if calibration else "-"


def _cards_note(evaluations: Sequence[Evaluation], groups: Collection[str]) -> str:
    last = evaluations[-1]
    run = f" of {last.run}" if len(evaluations) > 1 else ""
    metric = label(last.example_metric) + run
    ranked = " and ".join(f"the {name}" for name in ("best", "worst") if name in groups)
    confident = ", confident answers that are wrong" * ("over-confident" in groups)
    note = (
        f"{ranked} by {metric}{confident}, and a random sample; only the random sample is "
        "representative."
        if ranked
        else f"a random sample; all have the same {metric}."
    )
    return f"{note[0].upper()}{note[1:]} Scores are multiplied by 100."
