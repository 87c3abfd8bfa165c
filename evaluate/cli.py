"""`epalm-eval`: stage three on the command line."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from epalm.errors import UsageError
from epalm.evaluate import report_cli, score_cli
from epalm.evaluate.report_cli import ALLOW_OUTSIDE, DATASET
from epalm.plugins import TypedName

if TYPE_CHECKING:
    from epalm.evaluate.run_evaluation import EvaluationResult
    from epalm.evaluate.scores.eval_results import Evaluation

EXAMPLES = (
    "epalm-eval --split val",
    "epalm-eval --split karpathy_test --run runs/NAME --beams 3",
    "epalm-eval compare runs/NAME runs/NAME_blind",
)
"""Command lines that the help ends with."""

app = typer.Typer(add_completion=False)
report_cli.add_commands(app)
score_cli.add_commands(app)

INCOMPLETE = 3
"""Exit code when examples were left out because their medium could not be encoded."""


@app.callback(invoke_without_command=True)
def command(
    context: typer.Context,
    split: Annotated[str, typer.Option(help="Split to evaluate, e.g. val.")] = "",
    run: Annotated[
        str, typer.Option(help="Run folder, or its name in --runs; default: the newest.")
    ] = "",
    task: Annotated[
        str,
        typer.Option(help="Task to evaluate, with --features of its data set; default: the run's."),
    ] = "",
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    features: Annotated[
        str | None,
        typer.Option(help="Feature store, path or URL; default: the one used in training."),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(help="Folder of the task's files; default: the one used in training."),
    ] = None,
    dataset: DATASET = "",
    allow_outside: ALLOW_OUTSIDE = False,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind", help="Control: answer with the features of other samples of the split."
        ),
    ] = False,
    device: Annotated[
        str, typer.Option(help="Device: cpu, cuda, cuda:1, mps (untested), or auto.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, max=1_000_000, help="Examples per batch.")] = 64,
    beams: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of beams; 1: greedy. Default of this and the decoding options "
            "below: the run's.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of generated tokens, the end token included."),
    ] = None,
    sample: Annotated[
        bool | None,
        typer.Option(
            "--sample/--no-sample", help="Sample tokens instead of taking the most likely ones."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature, above 0.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Nucleus sampling: probability kept, above 0, at most 1."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=10**12, help="Random seed of sampling.")
    ] = None,
    answers: Annotated[
        str,
        typer.Option(
            help="Closed-vocabulary evaluation by log-likelihood: a file with one answer per line, "
            "or top-1000, the most frequent answers of the training split."
        ),
    ] = "",
    limit: Annotated[
        int, typer.Option(min=0, help="Evaluate the first N examples only; 0: all.")
    ] = 0,
    reader: Annotated[
        str, typer.Option(help="How features are read: auto, ram, mapped or pread.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results, warnings and errors only.")
    ] = False,
) -> None:
    """Generate the answers of a trained run on a split, score them and write a report.

    Writes predictions.jsonl, scores.json and report.html to RUN/eval/SPLIT. Other decoding options
    than the run's add a suffix to that folder, e.g. val-beams3.
    """
    if context.invoked_subcommand is not None:
        return
    if not split:
        raise UsageError("--split must be given, e.g. epalm-eval --split val")
    configure_logging(quiet=quiet)
    from epalm.evaluate.preparation.decoding_overrides import DecodingOverrides
    from epalm.evaluate.preparation.eval_preparation import EvalConfig, prepare
    from epalm.evaluate.preparation.run_lookup import find_run
    from epalm.evaluate.scores.result_warnings import warn_of

    request = EvalConfig(
        run=find_run(runs, run),
        split=split,
        task=TypedName(task),
        features=features,
        data_root=data_root,
        dataset=TypedName(dataset),
        allow_outside=allow_outside,
        device=device,
        batch_size=batch_size,
        blind=blind,
        limit=limit,
        reader=reader,
        quiet=quiet,
        protocol=DecodingOverrides(
            num_beams=beams,
            max_new_tokens=max_new_tokens,
            do_sample=sample,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            answers=answers,
        ),
    )
    plan = prepare(request)

    from epalm.evaluate.run_evaluation import evaluate_prepared  # and torch, which takes seconds

    finished = evaluate_prepared(plan)
    _show(finished, request.run, as_json=as_json)
    warn_of([finished.evaluation])
    if skipped := len(finished.evaluation.skipped):
        from epalm.evaluate.scores.eval_results import summary_file

        note(
            f"incomplete: {skipped} of {finished.evaluation.asked} examples were left out, their "
            f"media could not be encoded; {summary_file(finished.folder).name} lists them"
        )
        raise typer.Exit(INCOMPLETE)


def score_table(evaluation: "Evaluation", moved: tuple[str, str] | None) -> Table:
    """The scores times 100, as papers print them, with their intervals.

    Args:
        evaluation: of which the scores are.
        moved: what the run learnt from and what it was asked about, where these differ.
    """
    from epalm.evaluate.report.tables import asked_words

    blind = ", blind control" if evaluation.blind else ""
    asked = f"{evaluation.task} {evaluation.split}"
    if moved:
        asked = f"learnt from {moved[0]}, asked about {moved[1]} {evaluation.split}"
    title = f"{evaluation.run}: {asked}{blind}, {asked_words(evaluation)}"
    return score_cli.table_of_scores(evaluation.scores, evaluation.headline, title=title)


def _show(finished: "EvaluationResult", run: Path, *, as_json: bool) -> None:
    evaluation = finished.evaluation
    if as_json:
        from epalm.evaluate.scores.eval_results import summary_file

        scores = json.loads(summary_file(finished.folder).read_text(encoding="utf-8"))
        say_json(scores | {"folder": str(finished.folder)})
        return
    if not evaluation.scores:
        from epalm.evaluate.scores.submission import submit_command

        count = counted(len(evaluation.answered), "prediction")
        note(f"{finished.folder / 'predictions.jsonl'}: {count} without scores")
        if command := submit_command(finished.folder, evaluation):
            note(f"write what the server takes: {command}")
        return
    from epalm.evaluate.preparation.eval_target import transfer_labels
    from epalm.model.checkpoints.run_record import RunRecord

    show_table(score_table(evaluation, transfer_labels(RunRecord.load(run), evaluation)))
    note(
        f"{len(evaluation.answered)} examples in {duration(evaluation.seconds)}; "
        f"report: {finished.folder / 'report.html'}"
    )


def main() -> None:
    """Entry point of `epalm-eval`."""
    run_app(app, examples=EXAMPLES)
