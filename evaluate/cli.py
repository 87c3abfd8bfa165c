"""`epalm-eval`: evaluate a trained run, the third stage on the command line."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from epalm.console import (
    configure_logging,
    counted,
    duration,
    note,
    run_app,
    say_json,
    show_table,
)
from epalm.errors import INCOMPLETE, UsageError
from epalm.evaluate import report_cli, score_cli
from epalm.evaluate.alignment import alignment_cli
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.options import PanelGroup, command_from

if TYPE_CHECKING:
    from epalm.evaluate.run_evaluation import EvaluationResult
    from epalm.evaluate.scores.eval_results import Evaluation

EXAMPLES = (
    "epalm-eval --split val",
    "epalm-eval --split karpathy_test --run runs/NAME --beams 3",
    "epalm-eval compare runs/NAME runs/NAME_blind",
)
"""Command lines that the help ends with."""


def command(options: EvalOptions) -> None:
    """Answer a split with a trained run, score the answers and write a report.

    Writes predictions.jsonl, scores.json and report.html to RUN/eval/SPLIT. Other decoding settings
    than the run's add a suffix to that folder, e.g. val-beams3.
    """
    if not options.split:
        raise UsageError("--split must be given, e.g. epalm-eval --split val")
    configure_logging(quiet=options.quiet)
    from epalm.evaluate.preparation.eval_preparation import prepare

    plan = prepare(options)

    from epalm.evaluate.run_evaluation import evaluate_prepared  # and torch, which takes seconds
    from epalm.evaluate.scores.result_warnings import log_warnings

    result = evaluate_prepared(plan)
    _show(result, plan.run, as_json=options.as_json)
    log_warnings([result.evaluation])
    if result.evaluation.skipped:
        note(_incomplete(result))
        raise typer.Exit(INCOMPLETE)


app = typer.Typer(add_completion=False, cls=PanelGroup)
app.callback(invoke_without_command=True)(command_from(EvalOptions, command))
report_cli.add_commands(app)
score_cli.add_commands(app)
alignment_cli.add_commands(app)


def score_table(evaluation: "Evaluation", transfer: tuple[str, str] | None) -> Table:
    """The scores times 100, as papers print them, with their intervals.

    Args:
        evaluation: the evaluation.
        transfer: what the run was trained on and what it was evaluated on, if they differ.
    """
    from epalm.evaluate.report.tables import example_count

    blind = ", blind control" if evaluation.blind else ""
    data = f"{evaluation.task} {evaluation.split}"
    if transfer:
        data = f"trained on {transfer[0]}, evaluated on {transfer[1]} {evaluation.split}"
    title = f"{evaluation.run}: {data}{blind}, {example_count(evaluation)}"
    return score_cli.table_of_scores(evaluation.scores, evaluation.headline, title=title)


def _incomplete(result: "EvaluationResult") -> str:
    from epalm.evaluate.scores.eval_results import summary_file

    skipped, count = len(result.evaluation.skipped), result.evaluation.example_count
    return (
        f"incomplete: {skipped} of {count} examples were skipped because their samples could not "
        f"be encoded; {summary_file(result.folder).name} lists them"
    )


def _show(result: "EvaluationResult", run: Path, *, as_json: bool) -> None:
    evaluation = result.evaluation
    if as_json:
        from epalm.evaluate.scores.eval_results import summary_file

        scores = json.loads(summary_file(result.folder).read_text(encoding="utf-8"))
        say_json(scores | {"folder": str(result.folder)})
        return
    if not evaluation.scores:
        from epalm.evaluate.scores.submission import submit_command

        count = counted(len(evaluation.predictions), "prediction")
        note(f"{result.folder / 'predictions.jsonl'}: {count} without scores")
        if command := submit_command(result.folder, evaluation):
            note(f"write the file for the benchmark server: {command}")
        return
    from epalm.evaluate.preparation.eval_target import transfer_labels
    from epalm.model.checkpoints.run_record import RunRecord

    show_table(score_table(evaluation, transfer_labels(RunRecord.load(run), evaluation)))
    note(
        f"{len(evaluation.predictions)} examples in {duration(evaluation.seconds)}; "
        f"report: {result.folder / 'report.html'}"
    )


def main() -> None:
    """Entry point of `epalm-eval`."""
    run_app(app, examples=EXAMPLES)
