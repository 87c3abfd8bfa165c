"""`epalm-eval report` and `epalm-eval compare`: pages and tables of what was evaluated before."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from epalm.console import configure_logging, note, say, say_json, show_table
from epalm.errors import MissingFileError
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.evaluate.report.report_files import ReportColumn

RUNS = Annotated[Path, typer.Option(help="Folder of all runs.")]

DATASET = Annotated[
    str,
    typer.Option(
        help="Data set of the images on the page: a name, a manifest's path or module:factory; "
        "default: the store's."
    ),
]

ALLOW_OUTSIDE = Annotated[
    bool,
    typer.Option(
        "--allow-outside",
        help="Also show files that the data set names outside its folder.",
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("report")(report)
    app.command("compare")(compare)


def report(
    run: Annotated[str, typer.Argument(help="Run folder, or its name in --runs.")],
    split: Annotated[
        str, typer.Option(help="Folder under RUN/eval, e.g. val; default: every one.")
    ] = "",
    runs: RUNS = Path("runs"),
    dataset: DATASET = "",
    allow_outside: ALLOW_OUTSIDE = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
) -> None:
    """Write the report pages of a run again, without a model.

    Adds the blind control, of RUN_blind or of the run itself, if it has been evaluated by then.
    """
    configure_logging(quiet=quiet)
    from epalm.evaluate.preparation.run_lookup import find_run

    folder = find_run(runs, run)

    from epalm.evaluate.report.report_files import evaluated, write_page
    from epalm.evaluate.scores.result_warnings import warn_of

    found = evaluated(folder)
    wanted = [one for one in found if split in ("", one.name)]
    if not wanted:
        raise MissingFileError(
            f"{folder}/eval has no {split}, it has {', '.join(one.name for one in found)}: name "
            f"one of these, or evaluate more with `epalm-eval --run {folder}`"
        )
    for one in wanted:
        page = write_page(folder, one, dataset=TypedName(dataset), allow_outside=allow_outside)
        say(str(page))
        warn_of([found[one]])


def compare(
    runs_named: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or their names in --runs, or one evaluation each: RUN/eval/FOLDER.",
        ),
    ],
    split: Annotated[
        str,
        typer.Option(
            help="Folder under RUN/eval, e.g. val or val-first100; default: the newest that all "
            "have of a whole split, with the right media, in the run's own way."
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Also write a page, e.g. compare.html.")] = None,
    runs: RUNS = Path("runs"),
    dataset: DATASET = "",
    allow_outside: ALLOW_OUTSIDE = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print results and errors only.")] = False,
) -> None:
    """Compare evaluated runs: scores, parameters, time.

    Differences are to the first run. Runs that answered the same questions are
    compared question by question. Published figures of the task follow where there are some.
    """
    configure_logging(quiet=quiet)
    from epalm.evaluate.preparation.run_lookup import named_on_the_command_line

    named = [named_on_the_command_line(runs, name) for name in runs_named]

    from epalm.evaluate.report.report_files import write_comparison
    from epalm.evaluate.report.run_selection import select
    from epalm.evaluate.scores.compare_runs import check_comparable
    from epalm.evaluate.scores.eval_results import ensure_writable
    from epalm.evaluate.scores.result_warnings import warn_of

    shown = select(named, split)
    evaluations = [one.evaluation for one in shown]
    check_comparable(evaluations)
    warn_of(evaluations)
    if out:
        ensure_writable(out)
        write_comparison(out, shown, dataset=TypedName(dataset), allow_outside=allow_outside)
    if as_json:
        say_json(_as_json(shown))
        return
    show_table(comparison_table(shown))
    published_table = _published_table(shown[0])
    if published_table:
        show_table(published_table)
    if out:
        note(f"page: {out}")


def comparison_table(shown: list["ReportColumn"]) -> Table:
    """A column per run: scores, the headline's difference to the first, parameters, time."""
    from epalm.evaluate.report.report_files import split_words
    from epalm.evaluate.report.tables import (
        asked_words,
        cost_rows,
        difference_cells,
        label,
        score_rows,
    )
    from epalm.evaluate.scores.compare_runs import difference

    evaluations = [one.evaluation for one in shown]
    first = evaluations[0]
    table = Table(title=f"{first.task} {split_words(shown)}")
    table.add_column("score × 100")  # noqa: RUF001 - the sign, not the letter
    for one in evaluations:
        table.add_column(one.run, justify="right", overflow="fold")
    table.add_row("asked", *map(asked_words, evaluations))
    for row in score_rows(evaluations):
        table.add_row(
            row["name"], *(Text(f"{cell['value']}\n{cell['range']}") for cell in row["cells"])
        )
    found = [difference_cells(difference(one, first)) for one in evaluations[1:]]
    differences = [Text(f"{cells['value']}\n{cells['range']}\np {cells['p']}") for cells in found]
    if differences:
        table.add_row(f"{label(first.headline)} less that of {first.run}", "", *differences)
    for row in cost_rows([one.costs() for one in shown]):
        table.add_row(row["name"], *(cell["main"] for cell in row["cells"]))
    return table


def _published_table(one: "ReportColumn") -> Table | None:
    from epalm.evaluate.report.paper_results import published
    from epalm.evaluate.report.tables import label

    figures = published(one.evaluation.task)
    if not figures:
        return None
    table = Table(title=f"published, {one.evaluation.task}")
    for name in ("method", "score", "× 100", "on", "where"):  # noqa: RUF001
        table.add_column(name)
    for before, figure in zip((None, *figures), figures, strict=False):
        if before and before.whose != figure.whose:
            table.add_section()
        value = f"{figure.value:.2f}"
        table.add_row(figure.method, label(figure.metric), value, figure.on, figure.source)
    return table


def _as_json(shown: list["ReportColumn"]) -> dict[str, Any]:
    from epalm.evaluate.report.paper_results import published
    from epalm.evaluate.scores.compare_runs import difference

    first = shown[0].evaluation
    runs = []
    for one in shown:
        found = difference(one.evaluation, first) if one.evaluation is not first else None
        runs.append(
            {
                "run": one.evaluation.run,
                "folder": str(one.run),
                "blind": one.evaluation.blind,
                "asked": one.evaluation.asked,
                "split_size": one.evaluation.split_size,
                "scores": {name: asdict(score) for name, score in one.evaluation.scores.items()},
                "difference": asdict(found) if found else None,
                "costs": asdict(one.costs()),
            }
        )
    return {
        "task": first.task,
        "split": first.split,
        "headline": first.headline,
        "runs": runs,
        "published": [asdict(figure) for figure in published(first.task)],
    }
