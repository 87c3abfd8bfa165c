"""The page of a run's evaluation, from the files it left: no model is needed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from epalm.cache.store import Store
from epalm.errors import EpalmError, MissingFileError
from epalm.evaluate.preparation.eval_target import find_media, transfer_labels
from epalm.evaluate.preparation.run_settings import read_recipe
from epalm.evaluate.report.resource_use import (
    Costs,
    amount,
    evaluation_cost,
    extraction_cost,
    training_cost,
)
from epalm.evaluate.report.run_report import ReportData, write_report
from epalm.evaluate.scores.eval_results import SCORES_FILE, Evaluation, read_evaluation
from epalm.model.checkpoints.run_record import METRICS_FILE, RunRecord
from epalm.model.method.variants import find_variant
from epalm.tasks.types import MediaItem

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"

BLIND = "-blind"
"""Ends the name of a blind control's evaluation."""


@dataclass(frozen=True)
class ReportColumn:
    """An evaluation and the run it is of.

    Attributes:
        run: the run's folder.
        evaluation: what it found.
        manner: see the function of that name.
    """

    run: Path
    evaluation: Evaluation
    manner: str = ""

    @property
    def record(self) -> RunRecord:
        """What the run was.

        Raises:
            MalformedFileError: its run.json or its recipe.toml is damaged.
            MissingFileError: it has no run.json.
        """
        read_recipe(self.run)
        return RunRecord.load(self.run)

    def costs(self) -> Costs:
        """What it took."""
        record = self.record
        return Costs(
            trained=record.trained,
            frozen=record.frozen,
            extraction=extraction_cost(self.evaluation.features or record.features),
            training=training_cost(self.run / METRICS_FILE),
            evaluation=evaluation_cost(self.evaluation),
        )

    def media(self, dataset: str, *, allow_outside: bool = False) -> Mapping[str, MediaItem]:
        """What it was asked about; empty where that can no longer be found, with a warning.

        Args:
            dataset: see `find_media`.
            allow_outside: likewise.
        """
        record = self.record
        try:
            spec = Store.open(self.evaluation.features or record.features).spec
        except EpalmError as error:
            logger.warning("the report names its media without showing them: %s", error)
            return {}
        root = Path(self.evaluation.data_root or record.data_root)
        return find_media(spec, root, dataset=dataset, allow_outside=allow_outside)


def evaluation_suffix(folder: Path, evaluation: Evaluation) -> str:
    """How an evaluation was asked, as its folder's name has it after the split.

    Returns:
        E.g. "first40-beams3"; empty for the whole split, in the run's own way.
    """
    return f"-{folder.name}-".partition(f"-{evaluation.split}-")[2].rstrip("-")


def evaluated(run: Path) -> dict[Path, Evaluation]:
    """A run's scored evaluations by their folders, the newest last.

    Raises:
        MissingFileError: it has none.
        MalformedFileError: a scores.json is damaged.
    """
    files = sorted((run / "eval").glob(f"*/{SCORES_FILE}"), key=lambda it: it.stat().st_mtime)
    read = {file.parent: read_evaluation(file.parent) for file in files}
    found = {folder: evaluation for folder, evaluation in read.items() if evaluation.scores}
    if not found:
        raise MissingFileError(
            f"{run} was not evaluated yet: run `epalm-eval --run {run} --split val`"
        )
    return found


def find_control(run: Path, folder: Path) -> ReportColumn | None:
    """The blind control of an evaluation: of a run trained blind beside it, else the run's own."""
    name = folder.name + BLIND
    for other in (run.with_name(f"{run.name}_blind"), run):
        if _is_file(other / "eval" / name / SCORES_FILE):
            found = read_evaluation(other / "eval" / name)
            return ReportColumn(
                other, replace(found, run=found.run + ", asked blind" * (other == run))
            )
    return None


def _is_file(path: Path) -> bool:
    """Whether there is such a file; of a name that no file can have there is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def write_page(run: Path, folder: Path, *, dataset: str = "", allow_outside: bool = False) -> Path:
    """Write the page of one evaluation, its blind control beside it where there is one.

    Args:
        run: the run's folder.
        folder: of the evaluation.
        dataset: see `find_media`.
        allow_outside: likewise.

    Returns:
        The page.

    Raises:
        MissingFileError: there is no evaluation, or no run.
        MalformedFileError: its files are damaged.
    """
    evaluation = read_evaluation(folder)
    own = ReportColumn(run, evaluation, evaluation_suffix(folder, evaluation))
    control = None if own.evaluation.blind else find_control(run.resolve(), folder)
    shown = [control, own] if control else [own]
    page = folder / REPORT_FILE
    moved = transfer_labels(own.record, own.evaluation)
    title = f"{evaluation.run}{_asked(moved)}, {split_words([own])}"
    data = _data(title, shown, own.media(dataset, allow_outside=allow_outside))
    write_report(page, replace(data, lead=_lead(own.record), transfer=moved))
    return page


def split_words(shown: Sequence[ReportColumn]) -> str:
    """The split, and after it the manner of asking where all have one: "val-first40"."""
    ways = {one.manner for one in shown}
    way = ways.pop() if len(ways) == 1 else ""
    return "-".join(part for part in (shown[0].evaluation.split, way) if part)


def write_comparison(
    page: Path,
    shown: Sequence[ReportColumn],
    *,
    title: str = "",
    lead: str = "",
    dataset: str = "",
    allow_outside: bool = False,
) -> None:
    """Write a page with a column for each evaluation; the others are held against the first.

    Args:
        page: the HTML file.
        shown: the columns; the gallery is chosen by the last.
        title: the heading; by default task, split and how many runs.
        lead: a sentence or two below it.
        dataset: see `find_media`.
        allow_outside: likewise.

    Raises:
        UsageError: they are of different tasks or splits.
    """
    last = shown[-1].evaluation
    named = title or f"{last.task}, {split_words(shown)}: {amount(len(shown), 'run')}"
    media = shown[-1].media(dataset, allow_outside=allow_outside)
    write_report(page, replace(_data(named, shown, media), lead=lead))


def perceived(
    media: Mapping[str, MediaItem], evaluation: Evaluation
) -> tuple[Mapping[str, MediaItem], dict[str, str]]:
    """The media as what the encoder perceived of them, and the setting that says so.

    An encoder of filter banks listens: of clips it knows the sound alone, and so they are shown.
    """
    clips = any(item.modality == "video" for item in media.values())
    if not clips or "fingerprint.filter_bank" not in evaluation.fingerprint:
        return media, {}
    heard = {key: item._replace(modality="audio") for key, item in media.items()}
    return heard, {"media": "the sound of clips"}


def _data(title: str, shown: Sequence[ReportColumn], found: Mapping[str, MediaItem]) -> ReportData:
    once = [one for one in shown if one.run.resolve() != shown[-1].run.resolve()]
    once.append(shown[-1])  # a run that was also asked blind was trained once
    media, _ = perceived(found, shown[-1].evaluation)
    evaluations = (
        replace(one, settings=one.settings | perceived(found, one)[1])
        for one in (it.evaluation for it in shown)
    )
    return ReportData(
        title=title,
        evaluations=tuple(evaluations),
        media=media,
        metrics_files=tuple(one.run / METRICS_FILE if one in once else None for one in shown),
        costs={one.evaluation.run: one.costs() for one in once},
    )


def _asked(moved: tuple[str, str] | None) -> str:
    return f" asked about {moved[1]}" if moved else ""


def _lead(record: RunRecord) -> str:
    state = find_variant(record.model.variant).language_model
    unbroken = Markup('<span class="whole">{}</span>')
    return Markup(
        "{} trained parameters let the {} language model {} read the vectors of {}."
    ).format(
        f"{record.trained:,}",
        state,
        unbroken.format(Path(record.model.lm).name),
        unbroken.format(record.store["encoder"]),
    )
