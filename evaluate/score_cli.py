"""`epalm-eval score`, `submit` and `install-spice`: commands that need no model and no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from epalm.console import BYTES, configure_logging, counted, note, progress, say_json, show_table
from epalm.errors import UsageError
from epalm.options import DATA, GENERAL, Json, Quiet, add_command, option
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from epalm.evaluate.scores.eval_results import Score
    from epalm.metrics.intervals import GroupMean

SCORE_EXAMPLES = (
    "epalm-eval score predictions.jsonl --references val.jsonl --metrics vqa",
    "epalm-eval score captions.jsonl --references refs.jsonl --metrics caption",
)

SUBMIT_EXAMPLES = (
    "epalm-eval submit runs/NAME/eval/test2015 --out test2015.json",
    "epalm-eval submit runs/NAME/eval/test --format gqa --out test.json",
)

INSTALL_SPICE_EXAMPLES = (
    "epalm-eval install-spice",
    "epalm-eval install-spice --source stanford-corenlp-full-2015-12-09.zip",
)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """The options of `epalm-eval score`."""

    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help='JSONL with {"id", "prediction"} per line, or a JSON list in the format of a '
            "benchmark server.",
        ),
    ]
    references: Annotated[
        Path,
        option(
            help='JSONL with {"id", "answers": [...]} per line and, optionally, "question_type", '
            '"answer_type" or "label": {answer: score}; or the published annotations of VQA or '
            "COCO captions.",
            panel=DATA,
        ),
    ]
    metrics: Annotated[
        str,
        option(
            help="Metrics to compute: caption, vqa, gqa, label, exact or module:function.",
            panel=DATA,
        ),
    ]
    out: Annotated[
        Path | None, option(help="Write the scores of each example as JSONL.", panel=GENERAL)
    ] = None
    as_json: Json = False
    quiet: Quiet = False


@dataclass(frozen=True, kw_only=True)
class SubmitOptions:
    """The options of `epalm-eval submit`."""

    evaluation: Annotated[
        Path, typer.Argument(metavar="RUN/eval/SPLIT", help="Folder of an evaluation.")
    ]
    out: Annotated[Path, option(help="File to write.", panel=DATA)]
    file_format: Annotated[
        Literal["vqa", "nocaps", "gqa"] | None,
        option(
            "--format",
            help="Format of the file; default: that of the task's server.",
            panel=DATA,
        ),
    ] = None
    as_json: Json = False


@dataclass(frozen=True, kw_only=True)
class InstallSpiceOptions:
    """The options of `epalm-eval install-spice`."""

    source: Annotated[
        str,
        option(help="Other URL, or file, of the Stanford CoreNLP 3.6.0 archive.", panel=DATA),
    ] = ""
    as_json: Json = False
    quiet: Quiet = False


def add_commands(app: typer.Typer) -> None:
    """Register the commands."""
    add_command(app, "score", ScoreOptions, score, SCORE_EXAMPLES)
    add_command(app, "submit", SubmitOptions, submit, SUBMIT_EXAMPLES)
    add_command(app, "install-spice", InstallSpiceOptions, install_spice, INSTALL_SPICE_EXAMPLES)


def score(options: ScoreOptions) -> None:
    """Score any predictions against references.

    Every id must occur exactly once in both files.
    """
    configure_logging(quiet=options.quiet)
    from epalm.evaluate.scores import scoring
    from epalm.evaluate.scores.eval_results import ensure_writable
    from epalm.metrics.metric_registry import load_final_metric

    out, inputs = options.out, (options.predictions, options.references)
    if out and out.resolve() in [file.resolve() for file in inputs]:
        raise UsageError(f"--out {out} would overwrite an input file: choose another file")
    metric = load_final_metric(TypedName(options.metrics))
    examples = scoring.read_references(options.references)
    predictions = scoring.read_predictions(options.predictions)
    if out:
        ensure_writable(out)
    scores = metric(predictions, examples)
    if out:
        scoring.write_scored(out, predictions, examples, scores)
    values = scoring.corpus_scores(scores)
    groups = scoring.reference_breakdowns(scores, examples)
    if options.as_json:
        say_json(
            {
                "metric": options.metrics,
                "count": len(examples),
                "headline": scores.headline,
                "scores": {name: asdict(value) for name, value in values.items()},
                "breakdowns": {
                    name: [asdict(group) for group in table] for name, table in groups.items()
                },
                "left_out": dict(scores.left_out),
            }
        )
        return
    title = f"{options.predictions}: {len(examples)}"
    show_table(table_of_scores(values, scores.headline, title=title))
    for name, table in groups.items():
        show_table(_groups(name, table, headline=scores.headline))


def submit(options: SubmitOptions) -> None:
    """Write predictions in the format of a benchmark server."""
    from epalm.evaluate.scores.submission import write_submission

    out = options.out
    file_format, submitted = write_submission(options.evaluation, options.file_format or "", out)
    if options.as_json:
        counts = {"task": submitted.task, "split": submitted.split}
        say_json(
            {"file": str(out), "format": file_format, "answers": len(submitted.predictions)}
            | counts
        )
        return
    answers = counted(len(submitted.predictions), "answer")
    note(f"{out}: {answers} of {submitted.split} in the format {file_format}")
    if submitted.scores:
        note(
            f"{submitted.split} has published answers and is scored in scores.json: the file is "
            "for the benchmark's own evaluation program"
        )


def install_spice(options: InstallSpiceOptions) -> None:
    """Download the parser that SPICE needs (0.5 GB).

    It is downloaded once; scoring downloads nothing.
    """
    from epalm.errors import MissingToolError
    from epalm.metrics.captions import spice

    source = options.source or spice.SOURCE
    total = spice.archive_bytes(source)
    with progress("downloading", total=total, unit=BYTES, quiet=options.quiet) as tick:
        files = spice.install_spice(source, tick=tick)
    for file in files:
        note(f"installed {file}")
    problem = program = ""
    try:
        program = str(spice.check_spice())
        note(f"SPICE will run with {program}")
    except MissingToolError as error:
        problem = str(error)
        note(f"SPICE still cannot run: {problem}")
    if options.as_json:
        installed = [str(file) for file in files]
        say_json({"installed": installed, "java": program or None, "problem": problem or None})


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
    table.add_column("× 100", justify="right")  # noqa: RUF001 - the sign, not the letter
    table.add_column("count", justify="right")
    for group in groups:
        table.add_row(group.name, percent(group.mean), f"{group.count:,}")
    return table
