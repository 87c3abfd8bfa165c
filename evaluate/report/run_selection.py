"""The evaluations of a comparison, and their labels."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from epalm.errors import MissingFileError
from epalm.evaluate.preparation.run_lookup import RunOrEvaluation
from epalm.evaluate.report.report_files import BLIND, ReportColumn, evaluated, evaluation_suffix
from epalm.evaluate.scores.eval_results import Evaluation, read_evaluation
from epalm.model.checkpoints.run_record import RunRecord


def select(folders: Sequence[RunOrEvaluation], split: str) -> list[ReportColumn]:
    """The evaluation of each run, with distinct labels.

    Args:
        folders: the runs, with the evaluation that the command line names for some of them.
        split: folder under eval of the other runs; empty for the newest evaluation of a whole
            split that all of them have, with the right samples and the run's own decoding. A run
            that was trained blind is evaluated blind.

    Raises:
        MissingFileError: a run lacks the evaluation, or the runs have none in common.
        MalformedFileError: an evaluation is damaged.
    """
    chosen = [folder for _, folder in folders if folder]
    reference = read_evaluation(chosen[0]) if chosen else None
    runs = [run for run, folder in folders if not folder]
    name = split or (_common(runs, reference) if runs else "")
    evaluations = [folder or _folder(run, name) for run, folder in folders]
    columns = []
    for (run, _), folder in zip(folders, evaluations, strict=True):
        evaluation = read_evaluation(folder)
        columns.append(ReportColumn(run, evaluation, evaluation_suffix(folder, evaluation)))
    return _labeled(columns, evaluations)


def _labeled(columns: Sequence[ReportColumn], folders: Sequence[Path]) -> list[ReportColumn]:
    """The columns with the shortest kind of label that distinguishes all of them."""
    short = [column.evaluation.run for column in columns]
    long = [
        f"{column.run.resolve().parent.name}/{name}"
        for column, name in zip(columns, short, strict=True)
    ]
    suffixes = [f", {column.suffix}" if column.suffix else "" for column in columns]
    labels = [name + suffix for name, suffix in zip(short, suffixes, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [name + suffix for name, suffix in zip(long, suffixes, strict=True)]
    if len(set(labels)) < len(labels):
        labels = [f"{run}/eval/{folder.name}" for run, folder in zip(short, folders, strict=True)]
    return [
        replace(column, evaluation=replace(column.evaluation, run=label))
        for column, label in zip(columns, labels, strict=True)
    ]


def _by_name(run: Path) -> dict[str, tuple[Path, Evaluation]]:
    """A run's evaluations, the newest last; without "-blind" if the run was trained blind."""
    trained_blind = RunRecord.load(run).blind
    return {
        folder.name.removesuffix(BLIND) if trained_blind else folder.name: (folder, evaluation)
        for folder, evaluation in evaluated(run).items()
    }


def _common(runs: Sequence[Path], reference: Evaluation | None) -> str:
    """The name of the first run's newest evaluation of a whole split that all runs have."""
    evaluations = [_by_name(run) for run in runs]
    shared = [name for name in evaluations[0] if all(name in other for other in evaluations)]
    whole = []
    for name in shared:
        folder, evaluation = evaluations[0][name]
        fits = reference is None or (
            (evaluation.task, evaluation.split) == (reference.task, reference.split)
        )
        if fits and evaluation_suffix(folder, evaluation) in (
            "",
            BLIND[1:] * (folder.name != name),
        ):
            whole.append(name)
    if whole:
        return whole[-1]
    available = "; ".join(
        f"{run.name} has {', '.join(names)}" for run, names in zip(runs, evaluations, strict=True)
    )
    examples = " ".join(
        str(folder) for folder, _ in (list(names.values())[-1] for names in evaluations)
    )
    split = next(iter(evaluations[0].values()))[1].split
    hint = f"use `--split {shared[-1]}`" if shared else f"give one of each, as in `{examples}`"
    raise MissingFileError(
        f"the runs have no evaluation of a whole split, with their own decoding, in common: "
        f"{available}. Evaluate each with `epalm-eval --run RUN --split {split}`, or {hint}"
    )


def _folder(run: Path, name: str) -> Path:
    """The folder RUN/eval/NAME, or NAME-blind for a run that was trained blind.

    Raises:
        MissingFileError: the run has no such evaluation.
    """
    evaluations = _by_name(run)
    for known, (folder, _) in evaluations.items():
        if name in (known, folder.name):
            return folder
    raise MissingFileError(
        f"{run} was evaluated on {', '.join(evaluations)}, not on {name}: choose one of these with "
        f"--split, give one as {run}/eval/FOLDER, or evaluate the run with `epalm-eval --run {run}`"
    )
