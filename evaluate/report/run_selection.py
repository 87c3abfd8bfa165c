"""Which evaluations a comparison puts side by side, and what it calls them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from epalm.errors import MissingFileError
from epalm.evaluate.preparation.run_lookup import Named
from epalm.evaluate.report.report_files import BLIND, ReportColumn, evaluated, evaluation_suffix
from epalm.evaluate.scores.eval_results import Evaluation, read_evaluation
from epalm.model.checkpoints.run_record import RunRecord


def select(named: Sequence[Named], split: str) -> list[ReportColumn]:
    """The evaluation of each run, with names that differ.

    Args:
        named: the runs; of those named with an evaluation that one is taken.
        split: folder under eval of the others; empty for the newest that all of them have of a
            whole split, answered with the right media in the run's own way. A run that was trained
            blind was asked so.

    Raises:
        MissingFileError: a run lacks it, or they have none in common.
        MalformedFileError: an evaluation is damaged.
    """
    folders = [folder for _, folder in named if folder]
    like = read_evaluation(folders[0]) if folders else None
    open_ones = [run for run, folder in named if not folder]
    name = split or (_common(open_ones, like) if open_ones else "")
    found = [folder or _folder(run, name) for run, folder in named]
    shown = []
    for (run, _), folder in zip(named, found, strict=True):
        evaluation = read_evaluation(folder)
        shown.append(ReportColumn(run, evaluation, evaluation_suffix(folder, evaluation)))
    return _told_apart(shown, found)


def _told_apart(shown: Sequence[ReportColumn], folders: Sequence[Path]) -> list[ReportColumn]:
    short = [one.evaluation.run for one in shown]
    long = [
        f"{one.run.resolve().parent.name}/{name}" for one, name in zip(shown, short, strict=True)
    ]
    ways = [f", {one.manner}" if one.manner else "" for one in shown]
    names = [name + way for name, way in zip(short, ways, strict=True)]
    if len(set(names)) < len(names):
        names = [name + way for name, way in zip(long, ways, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{run}/eval/{it.name}" for run, it in zip(short, folders, strict=True)]
    return [
        replace(one, evaluation=replace(one.evaluation, run=name))
        for one, name in zip(shown, names, strict=True)
    ]


def _by_name(run: Path) -> dict[str, tuple[Path, Evaluation]]:
    """A run's evaluations, the newest last; being blind is no part of the name if the run is."""
    trained_blind = RunRecord.load(run).blind
    return {
        folder.name.removesuffix(BLIND) if trained_blind else folder.name: (folder, evaluation)
        for folder, evaluation in evaluated(run).items()
    }


def _common(runs: Sequence[Path], like: Evaluation | None) -> str:
    """The name of the newest evaluation, by the first run, that all have of a whole split."""
    found = [_by_name(run) for run in runs]
    shared = [name for name in found[0] if all(name in other for other in found)]
    whole = []
    for name in shared:
        folder, evaluation = found[0][name]
        asked = (evaluation.task, evaluation.split)
        fits = like is None or asked == (like.task, like.split)
        if fits and evaluation_suffix(folder, evaluation) in (
            "",
            BLIND[1:] * (folder.name != name),
        ):
            whole.append(name)
    if whole:
        return whole[-1]
    listed = "; ".join(
        f"{run.name} has {', '.join(names)}" for run, names in zip(runs, found, strict=True)
    )
    examples = " ".join(str(folder) for folder, _ in (list(names.values())[-1] for names in found))
    split = next(iter(found[0].values()))[1].split
    hint = f"take `--split {shared[-1]}`" if shared else f"name one each, as in `{examples}`"
    raise MissingFileError(
        f"wanted an evaluation of a whole split in each run's own way, of one name in all: "
        f"{listed}. Evaluate each with `epalm-eval --run RUN --split {split}`, or {hint}"
    )


def _folder(run: Path, name: str) -> Path:
    """RUN/eval/<name>, or <name>-blind of a run that was trained so.

    Raises:
        MissingFileError: there is none.
    """
    found = _by_name(run)
    for known, (folder, _) in found.items():
        if name in (known, folder.name):
            return folder
    raise MissingFileError(
        f"{run} was evaluated on {', '.join(found)}, not on {name}: take one of these with "
        f"--split, name one as {run}/eval/FOLDER, or evaluate it alike with "
        f"`epalm-eval --run {run}`"
    )
