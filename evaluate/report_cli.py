"""`epalm-eval report` and `epalm-eval compare`: reports and tables of earlier evaluations."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from epalm.console import configure_logging, note, say, say_json, show_table
from epalm.errors import MissingFileError
from epalm.evaluate.preparation.eval_options import CompareBlind, Dataset, Runs
from epalm.options import DATA, GENERAL, AllowOutside, Json, Quiet, add_command, option

if TYPE_CHECKING:
    from epalm.evaluate.report.report_files import ReportColumn
    from epalm.evaluate.scores.eval_results import Evaluation

REPORT_EXAMPLES = (
    "epalm-eval report runs/NAME",
    "epalm-eval report NAME --split val",
)

COMPARE_EXAMPLES = (
    "epalm-eval compare NAME_blind NAME",
    "epalm-eval compare NAME OTHER --split val-first100 --out compare.html",
    "epalm-eval compare NAME runs/OTHER/eval/clips-val --json",
)


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The options of `epalm-eval report`."""

    run: Annotated[str, typer.Argument(help="Run folder, or its name in --runs.")]
    split: Annotated[
        str, option(help="Folder in RUN/eval, e.g. val; default: all of them.", panel=DATA)
    ] = ""
    runs: Runs = Path("runs")
    compare_blind: CompareBlind = None
    dataset: Dataset = ""
    allow_outside: AllowOutside = False
    as_json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The options of `epalm-eval compare`."""

    runs_or_evaluations: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or their names in --runs, or one evaluation each: RUN/eval/FOLDER.",
        ),
    ]
    split: Annotated[
        str,
        option(
            help="Folder in RUN/eval, e.g. val or val-first100; default: the newest evaluation of "
            "a whole split, with the right samples and the run's own decoding, that all runs have.",
            panel=DATA,
        ),
    ] = ""
    runs: Runs = Path("runs")
    dataset: Dataset = ""
    allow_outside: AllowOutside = False
    out: Annotated[
        Path | None, option(help="Also write a report, e.g. compare.html.", panel=GENERAL)
    ] = None
    as_json: Json = False
    quiet: Quiet = False


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    add_command(app, "report", ReportOptions, report, REPORT_EXAMPLES)
    add_command(app, "compare", CompareOptions, compare, COMPARE_EXAMPLES)


def report(options: ReportOptions) -> None:
    """Write the reports of a run again, without a model.

    Adds the blind control, from RUN_blind or from the run itself, if it has been evaluated since.
    """
    configure_logging(quiet=options.quiet)
    from epalm.evaluate.preparation.run_lookup import find_run

    folder = find_run(options.runs, options.run)

    from epalm.evaluate.report.report_files import evaluated, write_page
    from epalm.evaluate.scores.result_warnings import log_warnings

    evaluations = evaluated(folder)
    selected = [path for path in evaluations if options.split in ("", path.name)]
    if not selected:
        present = ", ".join(path.name for path in evaluations)
        raise MissingFileError(
            f"{folder}/eval has no {options.split}, it has {present}: "
            f"choose one of these, or evaluate more with `epalm-eval --run {folder}`"
        )
    pages = {}
    for path in selected:
        pages[path] = write_page(
            folder,
            path,
            compare_blind=options.compare_blind,
            dataset=options.dataset,
            allow_outside=options.allow_outside,
        )
        log_warnings([evaluations[path]])
    if options.as_json:
        say_json({"reports": [report_json(path, pages[path], evaluations[path]) for path in pages]})
        return
    for page in pages.values():
        say(str(page))


def report_json(folder: Path, page: Path, evaluation: "Evaluation") -> dict[str, Any]:
    """What `epalm-eval report --json` prints about one report."""
    return {
        "report": str(page),
        "evaluation": folder.name,
        "run": evaluation.run,
        "task": evaluation.task,
        "split": evaluation.split,
        "headline": evaluation.headline,
        "score": asdict(evaluation.scores[evaluation.headline]),
    }


def compare(options: CompareOptions) -> None:
    """Compare evaluated runs: scores, parameters, time.

    Differences are to the first run. Runs that answered the same questions are
    compared question by question. Published results on the task follow, if there are any.
    """
    configure_logging(quiet=options.quiet)
    from epalm.evaluate.preparation.run_lookup import find_run_or_evaluation

    folders = [find_run_or_evaluation(options.runs, name) for name in options.runs_or_evaluations]

    from epalm.evaluate.report.report_files import write_comparison
    from epalm.evaluate.report.run_selection import select
    from epalm.evaluate.scores.compare_runs import check_comparable
    from epalm.evaluate.scores.eval_results import ensure_writable
    from epalm.evaluate.scores.result_warnings import log_warnings

    columns = select(folders, options.split)
    evaluations = [column.evaluation for column in columns]
    check_comparable(evaluations)
    log_warnings(evaluations)
    if options.out:
        ensure_writable(options.out)
        write_comparison(
            options.out, columns, dataset=options.dataset, allow_outside=options.allow_outside
        )
    if options.as_json:
        say_json(_as_json(columns))
        return
    show_table(comparison_table(columns))
    if published := _published_table(columns[0]):
        show_table(published)
    if options.out:
        note(f"report: {options.out}")


def comparison_table(columns: list["ReportColumn"]) -> Table:
    """A column per run: scores, the headline's difference to the first run, parameters, time."""
    from epalm.evaluate.report.report_files import split_label
    from epalm.evaluate.report.tables import (
        cost_rows,
        difference_cells,
        distinct_row,
        example_count,
        gain_rows,
        label,
        score_rows,
    )
    from epalm.evaluate.scores.compare_runs import difference

    evaluations = [column.evaluation for column in columns]
    first = evaluations[0]
    table = Table(title=f"{first.task} {split_label(columns)}")
    table.add_column("score × 100")  # noqa: RUF001 - the sign, not the letter
    for evaluation in evaluations:
        table.add_column(evaluation.run, justify="right", overflow="fold")
    table.add_row("evaluated on", *map(example_count, evaluations))
    for row in (*score_rows(evaluations), distinct_row(evaluations)):
        table.add_row(
            row["name"], *(Text(f"{cell['value']}\n{cell['range']}") for cell in row["cells"])
        )
    cells = [difference_cells(difference(other, first)) for other in evaluations[1:]]
    differences = [Text(f"{cell['value']}\n{cell['range']}\np {cell['p']}") for cell in cells]
    if differences:
        table.add_row(f"{label(first.headline)}, difference to {first.run}", "", *differences)
    for row in gain_rows([column.validation() for column in columns]):
        table.add_row(
            f"{row['name']}, nats per token",
            *(Text(f"{cell['value']}\n{cell['range']}".strip()) for cell in row["cells"]),
        )
    for row in cost_rows([column.costs() for column in columns]):
        table.add_row(row["name"], *(cell["main"] for cell in row["cells"]))
    return table


def _published_table(column: "ReportColumn") -> Table | None:
    from epalm.evaluate.report.paper_results import published
    from epalm.evaluate.report.tables import label

    results = published(column.evaluation.task)
    if not results:
        return None
    table = Table(title=f"published, {column.evaluation.task}")
    for name in ("method", "score", "× 100", "on", "source"):  # noqa: RUF001
        table.add_column(name)
    for before, result in zip((None, *results), results, strict=False):
        if before and before.whose != result.whose:
            table.add_section()
        value = f"{result.value:.2f}"
        table.add_row(result.method, label(result.metric), value, result.on, result.source)
    return table


def _as_json(columns: list["ReportColumn"]) -> dict[str, Any]:
    from epalm.evaluate.report.paper_results import published
    from epalm.evaluate.scores.compare_runs import difference

    first = columns[0].evaluation
    runs = []
    for column in columns:
        evaluation = column.evaluation
        to_first = difference(evaluation, first) if evaluation is not first else None
        runs.append(
            {
                "run": evaluation.run,
                "folder": str(column.run),
                "blind": evaluation.blind,
                "asked": evaluation.example_count,
                "split_size": evaluation.split_size,
                "distinct_answers": len({one.prediction for one in evaluation.predictions}),
                "scores": {name: asdict(score) for name, score in evaluation.scores.items()},
                "difference": asdict(to_first) if to_first else None,
                "validation": column.validation(),
                "costs": asdict(column.costs()),
            }
        )
    return {
        "task": first.task,
        "split": first.split,
        "headline": first.headline,
        "runs": runs,
        "published": [asdict(result) for result in published(first.task)],
    }
