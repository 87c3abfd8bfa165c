"""One HTML file about one or several runs: scores, curves, examples, costs, settings."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from epalm import __version__
from epalm.atomic_write import write_file
from epalm.evaluate.report.gallery import GROUPS, gallery_cards
from epalm.evaluate.report.paper_results import OWN, PaperResult, published
from epalm.evaluate.report.plots import (
    colour,
    curves_figure,
    inline_svg,
    line_swatch,
    mark_swatch,
    png,
    reliability_figure,
)
from epalm.evaluate.report.resource_use import Costs
from epalm.evaluate.report.tables import (
    asked_words,
    breakdown_tables,
    cost_rows,
    difference_rows,
    label,
    score_cells,
    score_rows,
    setting_rows,
)
from epalm.evaluate.report.training_curves import read_curve
from epalm.evaluate.scores.calibration import calibrate
from epalm.evaluate.scores.compare_runs import check_comparable
from epalm.evaluate.scores.eval_results import Evaluation, Score
from epalm.evaluate.scores.result_warnings import doubts
from epalm.tasks.types import MediaItem

if TYPE_CHECKING:
    from matplotlib.figure import Figure


OWN_FIGURES = 5
"""Published figures of the method that a page shows before it is asked to; VQA v2 has 27."""


@dataclass(frozen=True)
class ReportData:
    """What a report is made from.

    Attributes:
        title: the page's heading.
        evaluations: one column each, all of one task and split; the gallery is chosen by the last.
        lead: a sentence or two below the heading, e.g. how large the language model is.
        transfer: what the run learnt from and what it was asked about, where these differ.
        media: key -> medium, for the gallery; cards of media it lacks show text alone.
        metrics_files: each evaluation's metrics.jsonl, in their order, None for one without a
            curve; empty for no curves. Files that do not exist are passed over.
        costs: name of a run -> what it took; empty for no table.
    """

    title: str
    evaluations: tuple[Evaluation, ...]
    lead: str = ""
    transfer: tuple[str, str] | None = None
    media: Mapping[str, MediaItem] = field(default_factory=dict, repr=False)
    metrics_files: tuple[Path | None, ...] = ()
    costs: Mapping[str, Costs] = field(default_factory=dict)


@dataclass(frozen=True)
class Chart:
    """A drawing of the page; its file stands beside the page as <page>-<name>.png."""

    name: str
    title: str
    figure: "Figure"

    @property
    def svg(self) -> Markup:
        """For the page."""
        return Markup(inline_svg(self.figure, self.title))


def write_report(path: Path, data: ReportData) -> None:
    """Write a page that shows everything without any other file and without a network.

    Its drawings also stand beside it as PNG files.

    Raises:
        UsageError: no evaluations, or evaluations of different tasks or splits.
        MalformedFileError: a metrics.jsonl that is none.
    """
    check_comparable(data.evaluations)
    environment = Environment(
        loader=PackageLoader("epalm.evaluate.report"), autoescape=True, trim_blocks=False
    )
    environment.filters["label"] = label
    charts = _curve_charts(data)
    reliability = _reliability_charts(data.evaluations)
    context = _context(data) | {"charts": charts, "reliability": reliability}
    page = environment.get_template("report.html.j2").render(context)
    path.parent.mkdir(parents=True, exist_ok=True)
    for chart in (*charts, *reliability):
        path.with_name(f"{path.stem}-{chart.name}.png").write_bytes(png(chart.figure))
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
        "runs": [one.run for one in data.evaluations],
        "facts": _facts(data),
        "warnings": _warnings(data.evaluations),
        "headline": headline,
        "curved": [row for row, file in curved if file],
        "published": _published_tables(last),
        "score_rows": score_rows(data.evaluations),
        "differences": difference_rows(data.evaluations),
        "calibration": [_error(one) for one in data.evaluations],
        "breakdowns": breakdown_tables(data.evaluations),
        "cost_runs": list(data.costs),
        "cost_rows": cost_rows(list(data.costs.values())),
        "cards": cards,
        "cards_note": _cards_note(data.evaluations, groups),
        "card_groups": [("all", len(cards)), *groups.items()],
        "card_types": sorted({name for card in cards for name in card.types}),
        "several_sentences": last.kind == "caption",
        "setting_rows": setting_rows([one.settings for one in data.evaluations]),
    }


def _published_tables(evaluation: Evaluation) -> list[tuple[str, list[PaperResult]]]:
    """Titles and rows: of eP-ALM the first few, those of the headline before others, then more."""
    figures = published(evaluation.task)
    own = [one for one in figures if one.whose == OWN]
    own.sort(key=lambda one: one.metric != evaluation.headline)
    tables = [
        ("Published figures of eP-ALM on this task", own[:OWN_FIGURES]),
        ("More figures of eP-ALM", own[OWN_FIGURES:]),
        ("Published figures of other methods", [one for one in figures if one.whose != OWN]),
    ]
    return [(title, rows) for title, rows in tables if rows]


def _facts(data: ReportData) -> list[tuple[str, str]]:
    evaluation = data.evaluations[-1]
    noun = "captions" if evaluation.kind == "caption" else "questions"
    learnt = zip(("learnt from", "asked about"), data.transfer or (), strict=False)
    answering = [("decoding", _answering(evaluation))] if _answering(evaluation) else []
    known = data.costs.get(evaluation.run)
    trained = [("trained parameters", f"{known.trained:,}")] if known else []
    return [
        *learnt,
        ("task", evaluation.task),
        ("split", evaluation.split),
        (noun, f"{len(evaluation.answered):,}"),
        *answering,
        *trained,
    ]


def _answering(evaluation: Evaluation) -> str:
    return evaluation.settings.get("decoding", "")


def _warnings(evaluations: Sequence[Evaluation]) -> list[str]:
    warnings = []
    for one in evaluations:
        prefix = f"{one.run}: " if len(evaluations) > 1 else ""
        if one.asked < one.split_size:
            warnings.append(f"{prefix}{asked_words(one)}")
        if _answering(one) != _answering(evaluations[-1]):
            warnings.append(f"{prefix}{_answering(one)}")
        if one.blind:
            warnings.append(f"{prefix}blind control, each question saw another medium")
        if one.skipped:
            warnings.append(f"{prefix}{len(one.skipped):,} skipped, their media are not encoded")
        warnings += [f"{prefix}{doubt}" for doubt in doubts(one)]
        warnings += [f"{prefix}{name} left out: {why}" for name, why in one.left_out.items()]
    return warnings


def _headline(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The bars: lengths in per cent of the longest possible, or of the highest score above it."""
    last = evaluations[-1]
    name = last.headline
    scores = [one.scores[name] for one in evaluations]
    figures = [one for one in published(last.task) if (one.whose, one.metric) == (OWN, name)]
    tops = [score.high or score.value for score in scores]
    full = max(1.0, *tops, *(one.value / 100 for one in figures))
    rows = [
        {
            "run": one.run,
            "colour": colour(number),
            "line": Markup(line_swatch(number)),
            "mark": Markup(mark_swatch(number)),
        }
        | score_cells(score, full=full)
        for number, (one, score) in enumerate(zip(evaluations, scores, strict=True))
    ]
    paper = [
        {"run": one.method, "on": one.on} | score_cells(Score(one.value / 100), full=full)
        for one in figures[:1]
    ]
    return {"name": label(name), "rows": rows, "paper": paper}


def _curve_charts(data: ReportData) -> list[Chart]:
    headline = data.evaluations[-1].headline
    wanted = (
        ("loss", "Training loss", "train", "loss", False),
        ("validation", f"Validation {label(headline)}, times 100", "val", headline, True),
    )
    charts = []
    for name, title, kind, metric, scaled in wanted:
        curves = [
            read_curve(file, kind=kind, metric=metric) if file else None
            for file in data.metrics_files
        ]
        if any(curves):
            names = [one.run for one in data.evaluations]
            figure = curves_figure(curves, names, axis=label(metric), percent=scaled)
            charts.append(Chart(name, title, figure))
    return charts


def _reliability_charts(evaluations: Sequence[Evaluation]) -> list[Chart]:
    found = [calibrate(one) for one in evaluations]
    if not any(found):
        return []
    axis = f"mean {label(evaluations[-1].example_metric)}"
    figure = reliability_figure(found, [one.run for one in evaluations], axis=axis)
    return [Chart("calibration", f"{axis.capitalize()} over mean confidence", figure)]


def _error(evaluation: Evaluation) -> str:
    found = calibrate(evaluation)
    return f"{100 * found.error:.2f}" if found else "-"


def _cards_note(evaluations: Sequence[Evaluation], groups: Collection[str]) -> str:
    last = evaluations[-1]
    of = f" of {last.run}" if len(evaluations) > 1 else ""
    metric = label(last.example_metric) + of
    ranked = " and ".join(f"the {name}" for name in ("best", "worst") if name in groups)
    sample = (
        f"{ranked} by {metric}, and a random sample, which alone says what to expect."
        if ranked
        else f"a random sample; all have the same {metric}."
    )
    return f"{sample[0].upper()}{sample[1:]} Scores are multiplied by 100."
