"""`epalm-eval score`, `submit` and `install-spice`: commands that need no model and no torch."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from epalm.console import BYTES, configure_logging, counted, note, progress, say_json, show_table
from epalm.errors import UsageError
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epalm.evaluate.scores.eval_results import Score
    from epalm.metrics.intervals import GroupMean

Quiet = Annotated[bool, typer.Option("--quiet", help="Print results, warnings and errors only.")]


def add_commands(app: typer.Typer) -> None:
    """Register all of them."""
    app.command("score")(score)
    app.command("submit")(submit)
    app.command("install-spice")(install_spice)


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help='JSONL: {"id", "prediction"} a line; or a list as servers take it.',
        ),
    ],
    references: Annotated[
        Path,
        typer.Option(
            help='JSONL: {"id", "answers": [...]} a line, and "question_type", "answer_type" or '
            '"label": {answer: score} where there are some; or annotations of VQA or of COCO\'s '
            "captions as published."
        ),
    ],
    metrics: Annotated[
        str, typer.Option(help="Metrics to compute: caption, vqa, gqa, label or exact.")
    ],
    out: Annotated[Path | None, typer.Option(help="Write each example's scores, as JSONL.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Score any predictions against references.

    Every id must occur exactly once in both files.
    """
    configure_logging(quiet=quiet)
    from epalm.evaluate.scores import scoring
    from epalm.evaluate.scores.eval_results import ensure_writable
    from epalm.metrics.metric_registry import load_final_metric

    if out and out.resolve() in (predictions.resolve(), references.resolve()):
        raise UsageError(f"--out {out} would take the place of what is read: name another file")
    metric = load_final_metric(TypedName(metrics))
    examples = scoring.read_references(references)
    given = scoring.read_predictions(predictions)
    if out:
        ensure_writable(out)
    found = metric(given, examples)
    if out:
        scoring.write_scored(out, given, examples, found)
    values = scoring.corpus_scores(found)
    groups = scoring.given_breakdowns(found, examples)
    if as_json:
        say_json(
            {
                "metric": metrics,
                "count": len(examples),
                "headline": found.headline,
                "scores": {name: asdict(value) for name, value in values.items()},
                "breakdowns": {
                    name: [asdict(one) for one in each] for name, each in groups.items()
                },
                "left_out": dict(found.left_out),
            }
        )
        return
    show_table(table_of_scores(values, found.headline, title=f"{predictions}: {len(examples)}"))
    for name, each in groups.items():
        show_table(_groups(name, each, headline=found.headline))


def submit(
    evaluation: Annotated[
        Path, typer.Argument(metavar="RUN/eval/SPLIT", help="Folder of an evaluation.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format of the file: vqa, nocaps or gqa; default: that of the task's server.",
        ),
    ] = "",
) -> None:
    """Write predictions in the format of a benchmark server."""
    from epalm.evaluate.scores.submission import write_submission

    form, found = write_submission(evaluation, form, out)
    note(f"{out}: {counted(len(found.answered), 'answer')} of {found.split} for {form}")
    if found.scores:
        note(
            f"{found.split} has answers, and scores.json its scores: the file is for the "
            "benchmark's own evaluation program"
        )


def install_spice(
    source: Annotated[
        str, typer.Option(help="Another URL, or a file, of the archive of Stanford CoreNLP 3.6.0.")
    ] = "",
    quiet: Quiet = False,
) -> None:
    """Download the parser that SPICE needs (0.5 GB).

    It is downloaded once; scoring downloads nothing.
    """
    from epalm.errors import MissingToolError
    from epalm.metrics.captions import spice

    source = source or spice.SOURCE
    total = spice.archive_bytes(source)
    with progress("downloading", total=total, unit=BYTES, quiet=quiet) as tick:
        files = spice.install_spice(source, tick=tick)
    for file in files:
        note(f"installed {file}")
    try:
        note(f"SPICE will run with {spice.check_spice()}")
    except MissingToolError as error:
        note(f"SPICE still cannot run: {error}")


def table_of_scores(values: "Mapping[str, Score]", headline: str, *, title: str) -> Table:
    """Scores times 100, as papers print them, with their intervals; the headline is bold."""
    from epalm.evaluate.report.tables import interval, label, percent

    table = Table(title=title)
    table.add_column("score × 100")  # noqa: RUF001 - the sign, not the letter
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, value in values.items():
        style = "bold" if name == headline else ""
        table.add_row(label(name), percent(value.value), interval(value), style=style)
    return table


def _groups(name: str, groups: "tuple[GroupMean, ...]", *, headline: str) -> Table:
    from epalm.evaluate.report.tables import label, percent

    table = Table(title=f"{label(headline)} by {name}")
    table.add_column(name)
    table.add_column("× 100", justify="right")  # noqa: RUF001 - likewise
    table.add_column("count", justify="right")
    for group in groups:
        table.add_row(group.name, percent(group.mean), f"{group.count:,}")
    return table
