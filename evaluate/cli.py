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
from epalm.entries import TypedName
from epalm.errors import UsageError
from epalm.evaluate import report_cli, score_cli
from epalm.evaluate.report_cli import ALLOW_OUTSIDE, DATASET

if TYPE_CHECKING:
    from epalm.evaluate.records import Evaluation
    from epalm.evaluate.session import Finished

app = typer.Typer(add_completion=False)
report_cli.add_commands(app)
score_cli.add_commands(app)

INCOMPLETE = 3
"""Exit code when examples were left out because their medium could not be encoded."""


@app.callback(invoke_without_command=True)
def command(
    context: typer.Context,
    split: Annotated[str, typer.Option(help="Split of the run's task, e.g. val.")] = "",
    run: Annotated[
        str, typer.Option(help="Run folder, or its name in --runs; default: the newest.")
    ] = "",
    task: Annotated[
        str,
        typer.Option(help="Another task than the run learnt, with --features of its media."),
    ] = "",
    runs: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
    features: Annotated[
        str | None, typer.Option(help="Path or URL of a store; default: the one of training.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where the task's files lie now; default: as in training.")
    ] = None,
    dataset: DATASET = "",
    allow_outside: ALLOW_OUTSIDE = False,
    blind: Annotated[
        bool, typer.Option("--blind", help="Control: features of other media of the split.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps (untested), or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Examples answered together.")] = 64,
    beams: Annotated[
        int | None,
        typer.Option(min=1, help="Beams; 1 is greedy. Default, as of all below: the run's."),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Length of generated text, the end token included.")
    ] = None,
    sample: Annotated[
        bool | None, typer.Option("--sample/--no-sample", help="Draw tokens at random.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Divides the logits before a draw; above 0.")
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw from the tokens with this much probability, above 0 to 1."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws.")] = None,
    answers: Annotated[
        str,
        typer.Option(
            help="Rank a closed list: a file with a line per answer, or top-1000, the most "
            "frequent answers of the training split."
        ),
    ] = "",
    limit: Annotated[int, typer.Option(min=0, help="First examples only; 0: all.")] = 0,
    reader: Annotated[
        str, typer.Option(help="How vectors are read: auto, ram, mapped or pread.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Results, warnings and errors only.")
    ] = False,
) -> None:
    """Let a run answer a split, score the answers and write a report.

    Files go to RUN/eval/SPLIT: predictions.jsonl, scores.json and report.html. An evaluation that
    answers in another way than its run has a folder of its own.
    """
    if context.invoked_subcommand is not None:
        return
    if not split:
        raise UsageError("which split? e.g. epalm-eval --split val")
    configure_logging(quiet=quiet)
    from epalm.evaluate.doubts import warn_of
    from epalm.evaluate.preparation import Request, find_run, prepare
    from epalm.evaluate.protocol import Protocol

    request = Request(
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
        protocol=Protocol(
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

    from epalm.evaluate.session import evaluate_prepared  # and torch, which takes seconds

    finished = evaluate_prepared(plan)
    _show(finished, request.run, as_json=as_json)
    warn_of([finished.evaluation])
    if skipped := len(finished.evaluation.skipped):
        from epalm.evaluate.records import summary_file

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
    from epalm.evaluate.tables import asked_words

    blind = ", blind control" if evaluation.blind else ""
    asked = f"{evaluation.task} {evaluation.split}"
    if moved:
        asked = f"learnt from {moved[0]}, asked about {moved[1]} {evaluation.split}"
    title = f"{evaluation.run}: {asked}{blind}, {asked_words(evaluation)}"
    return score_cli.table_of_scores(evaluation.scores, evaluation.headline, title=title)


def _show(finished: "Finished", run: Path, *, as_json: bool) -> None:
    evaluation = finished.evaluation
    if as_json:
        from epalm.evaluate.records import summary_file

        scores = json.loads(summary_file(finished.folder).read_text(encoding="utf-8"))
        say_json(scores | {"folder": str(finished.folder)})
        return
    if not evaluation.scores:
        from epalm.evaluate.submission import submit_command

        count = counted(len(evaluation.answered), "prediction")
        note(f"{finished.folder / 'predictions.jsonl'}: {count} without scores")
        if command := submit_command(finished.folder, evaluation):
            note(f"write what the server takes: {command}")
        return
    from epalm.evaluate.asked import transfer
    from epalm.model.run_record import RunRecord

    show_table(score_table(evaluation, transfer(RunRecord.load(run), evaluation)))
    note(
        f"{len(evaluation.answered)} examples in {duration(evaluation.seconds)}; "
        f"report: {finished.folder / 'report.html'}"
    )


def main() -> None:
    """Entry point of `epalm-eval`."""
    run_app(app)
