"""Reports of evaluations, written from their files without a model."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from epalm.cache.store import Store
from epalm.errors import EpalmError, MissingFileError
from epalm.evaluate.preparation.display_names import file_name, model_name, shown_settings
from epalm.evaluate.preparation.eval_target import find_media, transfer_labels
from epalm.evaluate.report.charts.training_curves import best_validation
from epalm.evaluate.report.page_notes import BLIND_CONTROL
from epalm.evaluate.report.resource_use import (
    Costs,
    amount,
    evaluation_cost,
    extraction_cost,
    training_cost,
)
from epalm.evaluate.report.run_report import ReportData, write_report
from epalm.evaluate.scores.eval_results import SCORES_FILE, Evaluation, read_evaluation
from epalm.model.checkpoints.run_record import METRICS_FILE, RunRecord, read_recipe
from epalm.model.method.variants import find_variant
from epalm.tasks.types import MediaItem

logger = logging.getLogger(__name__)

REPORT_FILE = "report.html"

BLIND = "-blind"
"""Suffix of the folder of a blind control."""

THIS_RUN = "this run"
"""Label of the column of the only run of a page, whose heading names it."""

EVALUATED_BLIND = "evaluated blind"
"""Label of the blind control that is this run, evaluated with the features of other samples."""


@dataclass(frozen=True)
class ReportColumn:
    """An evaluation and its run, a column of a report.

    Attributes:
        run: folder of the run.
        evaluation: the evaluation.
        suffix: `evaluation_suffix` of the evaluation's folder.
    """

    run: Path
    evaluation: Evaluation
    suffix: str = ""

    @property
    def record(self) -> RunRecord:
        """The record of the run.

        Raises:
            MalformedFileError: run.json or recipe.toml is damaged.
            MissingFileError: run.json does not exist.
        """
        read_recipe(self.run)
        return RunRecord.load(self.run)

    def costs(self) -> Costs:
        """Time and memory of extraction, training and evaluation."""
        record = self.record
        used = (self.evaluation.features, *self.evaluation.joined)
        stores = used if self.evaluation.features else (record.features, *record.joined)
        return Costs(
            trained=record.trained,
            frozen=record.frozen,
            extraction=extraction_cost(stores),
            training=training_cost(self.run / METRICS_FILE),
            evaluation=evaluation_cost(self.evaluation),
        )

    def validation(self) -> dict[str, float] | None:
        """Figures of the run's best epoch in its own validation; None if it has none."""
        return best_validation(self.run / METRICS_FILE)

    def settings(self) -> dict[str, str]:
        """Settings in words, as of this version: with the preprocessing, without local paths."""
        return shown_settings(self.evaluation, self.record)

    def media(self, dataset: str, *, allow_outside: bool = False) -> Mapping[str, MediaItem]:
        """The evaluated samples by key; empty, with a warning, if they no longer exist.

        Args:
            dataset: dataset named on the command line; empty for the store's.
            allow_outside: whether files outside the folder of the dataset may be read.
        """
        record = self.record
        try:
            spec = Store.open(self.evaluation.features or record.features).spec
        except EpalmError as error:
            logger.warning("the report names its samples without showing them: %s", error)
            return {}
        root = Path(self.evaluation.data_root or record.data_root)
        return find_media(spec, root, dataset=dataset, allow_outside=allow_outside)


def evaluation_suffix(folder: Path, evaluation: Evaluation) -> str:
    """What follows the split in the name of an evaluation's folder, e.g. "first40-beams3".

    Returns:
        The suffix; empty for a whole split and the run's own decoding settings.
    """
    return f"-{folder.name}-".partition(f"-{evaluation.split}-")[2].rstrip("-")


def evaluated(run: Path) -> dict[Path, Evaluation]:
    """A run's scored evaluations by their folders, the newest last.

    Raises:
        MissingFileError: the run has no scored evaluation.
        MalformedFileError: a scores.json is damaged.
    """
    files = sorted((run / "eval").glob(f"*/{SCORES_FILE}"), key=lambda file: file.stat().st_mtime)
    evaluations = {file.parent: read_evaluation(file.parent) for file in files}
    scored = {folder: evaluation for folder, evaluation in evaluations.items() if evaluation.scores}
    if not scored:
        raise MissingFileError(
            f"{run} has not been evaluated yet: run `epalm-eval --run {run} --split val`"
        )
    return scored


def find_control(run: Path, name: str) -> ReportColumn | None:
    """The blind control of an evaluation: that of RUN_blind, else the run's own.

    Args:
        run: folder of the run.
        name: name of the evaluation's folder.
    """
    for other in (run.with_name(f"{run.name}_blind"), run):
        folder = other / "eval" / f"{name}{BLIND}"
        if _is_file(folder / SCORES_FILE):
            label = EVALUATED_BLIND if other == run else BLIND_CONTROL
            return ReportColumn(other, replace(read_evaluation(folder), run=label))
    return None


def check_control(run: Path, name: str) -> None:
    """Refuse to compare an evaluation with a blind control that does not exist.

    Args:
        run: folder of the run.
        name: name of the evaluation's folder; that of a blind control itself is refused too.

    Raises:
        MissingFileError: there is no such control.
    """
    if find_control(run.resolve(), name) is None:
        raise MissingFileError(
            f"{name} of {run} has no blind control, expected {name}{BLIND} of {run}_blind or of "
            f"{run}: evaluate the run's own with `epalm-eval --run {run} --split SPLIT --blind`, "
            "with the options of this evaluation"
        )


def _is_file(path: Path) -> bool:
    """Whether the file exists; False for a name that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def write_page(
    run: Path,
    folder: Path,
    *,
    compare_blind: bool | None = None,
    dataset: str = "",
    allow_outside: bool = False,
) -> Path:
    """Write the report of one evaluation, with its blind control if there is one.

    Args:
        run: folder of the run.
        folder: folder of the evaluation.
        compare_blind: whether to show the blind control; None: if there is one.
        dataset: dataset named on the command line; empty for the store's.
        allow_outside: whether files outside the folder of the dataset may be read.

    Returns:
        The HTML file.

    Raises:
        MissingFileError: the evaluation, the run or the required blind control does not exist.
        MalformedFileError: the files of the evaluation are damaged.
    """
    evaluation = read_evaluation(folder)
    if compare_blind:
        check_control(run, folder.name)
    find = compare_blind is not False and not evaluation.blind
    control = find_control(run.resolve(), folder.name) if find else None
    suffix = evaluation_suffix(folder, evaluation)
    own = ReportColumn(run, replace(evaluation, run=THIS_RUN), suffix)
    columns = [control, own] if control else [own]
    page = folder / REPORT_FILE
    transfer = transfer_labels(own.record, own.evaluation)
    title = f"{evaluation.run}{_transfer_title(transfer)}, {split_label([own])}"
    data = _data(title, columns, own.media(dataset, allow_outside=allow_outside))
    write_report(page, replace(data, lead=_lead(own.record), transfer=transfer))
    return page


def split_label(columns: Sequence[ReportColumn]) -> str:
    """The split, with the suffix that all evaluations share: "val-first40"."""
    suffixes = {column.suffix for column in columns}
    suffix = suffixes.pop() if len(suffixes) == 1 else ""
    return "-".join(part for part in (columns[0].evaluation.split, suffix) if part)


def write_comparison(
    page: Path,
    columns: Sequence[ReportColumn],
    *,
    title: str = "",
    lead: str = "",
    dataset: str = "",
    allow_outside: bool = False,
) -> None:
    """Write a report with a column for each evaluation, compared with the first.

    Args:
        page: HTML file to write.
        columns: the evaluations; the last one determines the gallery.
        title: heading; by default task, split and number of runs.
        lead: a sentence or two below the heading.
        dataset: dataset named on the command line; empty for the store's.
        allow_outside: whether files outside the folder of the dataset may be read.

    Raises:
        UsageError: the evaluations are of different tasks or splits.
    """
    last = columns[-1].evaluation
    heading = title or f"{last.task}, {split_label(columns)}: {amount(len(columns), 'run')}"
    media = columns[-1].media(dataset, allow_outside=allow_outside)
    write_report(page, replace(_data(heading, columns, media), lead=lead))


def encoder_inputs(
    media: Mapping[str, MediaItem], evaluation: Evaluation
) -> tuple[Mapping[str, MediaItem], dict[str, str]]:
    """The samples as the encoder gets them, and the setting that says so.

    An audio encoder gets the sound track of a video alone, so the report shows only that.
    """
    video = any(item.modality == "video" for item in media.values())
    if not video or "fingerprint.filter_bank" not in evaluation.fingerprint:
        return media, {}
    audio = {key: item._replace(modality="audio") for key, item in media.items()}
    return audio, {"media": "sound tracks of videos"}


def _data(
    title: str, columns: Sequence[ReportColumn], samples: Mapping[str, MediaItem]
) -> ReportData:
    # A run that was also evaluated blind was trained once: one curve, one row of costs.
    trained = [column for column in columns if column.run.resolve() != columns[-1].run.resolve()]
    trained.append(columns[-1])
    media, _ = encoder_inputs(samples, columns[-1].evaluation)
    return ReportData(
        title=title,
        evaluations=tuple(
            replace(
                column.evaluation,
                settings=column.settings() | encoder_inputs(samples, column.evaluation)[1],
            )
            for column in columns
        ),
        media=media,
        metrics_files=tuple(
            column.run / METRICS_FILE if column in trained else None for column in columns
        ),
        costs={column.evaluation.run: column.costs() for column in trained},
        validations={column.evaluation.run: column.validation() for column in trained},
    )


def _transfer_title(transfer: tuple[str, str] | None) -> str:
    return f" evaluated on {transfer[1]}" if transfer else ""


def _lead(record: RunRecord) -> str:
    state = find_variant(record.model.variant).language_model
    unbroken = Markup('<span class="whole">{}</span>')
    return Markup(
        "{} trained parameters adapt the {} language model {} to the features of {}."
    ).format(
        f"{record.trained:,}",
        state,
        unbroken.format(file_name(record.model.lm)),
        unbroken.format(model_name(record.store["encoder"])),
    )
