"""What an evaluation asks a run: which task, about which vectors and which media."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePath

from epalm.cache.spec import StoreSpec
from epalm.errors import (
    CacheMismatchError,
    EpalmError,
    MalformedFileError,
    MissingFileError,
    UsageError,
)
from epalm.evaluate.preparation.run_settings import read_recipe
from epalm.evaluate.scores.eval_results import Evaluation, read_evaluation
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.manifest import TASK as MANIFEST
from epalm.tasks.task_registry import load_media, load_task, resolve_data_root
from epalm.tasks.types import MediaItem, Task

logger = logging.getLogger(__name__)

VECTOR_FIELDS = ("encoder", "layers", "width", "dtype")
"""Fields of a store, besides its fingerprint, that decide what a vector is.

Others, such as the number of records, may differ: a run can be asked about another set of media.
"""

AUGMENTATION_FIELDS = "fingerprint.views."
"""What begins so concerns views 1 and up, which evaluation never reads."""

MEDIA_FIELD = "fingerprint.media"

FIELDS_OF_MEDIA = frozenset(
    f"fingerprint.{name}"
    for name in ("media", "decode", "frames", "frame_choice", "frames_pool", "time_embedding")
)
"""What becomes of a medium before an encoder sees it; other media have others."""


def asked_task(
    task: str, record: RunRecord, spec: StoreSpec, data_root: Path | None
) -> tuple[Task, Path]:
    """The task named, or the run's own, and the root of its files.

    Args:
        task: as on the command line; empty for the run's own.
        record: the run.
        spec: of the store that is read; it knows where another task's files lay.
        data_root: where they lie now; None for there.

    Raises:
        UsageError: no such task, or the run answers questions and the task asks for captions, or
            the other way round.
        DataError: the files are not where they are looked for, or malformed.
    """
    name = task or record.task
    recorded = spec.data_root if task else record.data_root
    root = resolve_data_root(data_root, recorded=recorded, task=name)
    try:
        found = load_task(name, root)
    except UsageError as error:
        if MANIFEST not in spec.tasks:
            raise
        raise UsageError(
            f"{error}; the questions of a manifest, as of this store, are --task {MANIFEST}"
        ) from error
    answers = "{prompt}" in record.model.template
    if answers != (found.kind == "qa"):
        learnt, asked = ("answer questions", "captions") if answers else ("caption", "answers")
        raise UsageError(
            f"run {record.name} learnt to {learnt}, {name} asks for {asked}: name another --task, "
            "or a run of that kind with --run"
        )
    return found, root


def training_split(folder: Path, record: RunRecord, task: Task) -> str:
    """The split that teaches a task: to the run if it is the run's own, else to a run that would.

    Args:
        folder: the run's, whose recipe.toml names the split that it learnt from.
        record: the run.
        task: what is asked.

    Raises:
        MalformedFileError: recipe.toml is damaged.
    """
    own = read_recipe(folder).get("train_split", "") if task.name == record.task else ""
    return own or task.train_split


def title_of(task: Task, spec: StoreSpec) -> str:
    """What tells a task from others in the name of a folder: its name, or its manifest's."""
    return spec.dataset if task.name == MANIFEST else task.name


def evaluation_label(
    named: str, task: Task, record: RunRecord, spec: StoreSpec, features: str
) -> str:
    """What the name of an evaluation's folder says of task and store, e.g. "msvd-qa".

    Args:
        named: the task as on the command line; empty for the run's own.
        task: that task.
        record: the run.
        spec: of the store that is read.
        features: its path or URL.

    Returns:
        The task's title if another one was named than the run's own, then the store's name without
        ending if it is not the run's own store and is called neither `<dataset>_<encoder>`, as
        extraction calls it, nor like its data set. About the run's own task, a store of the same
        vectors is the run's own, and one of a manifest is always named: the same files may stand
        behind both.
    """
    stem = PurePath(features.rstrip("/")).stem
    usual = (spec.dataset, f"{spec.dataset}_{spec.encoder.replace('-', '')}")
    own = features == record.features
    published = task.name != MANIFEST
    if named and not (published and task.name == record.task):
        parts = [title_of(task, spec), "" if own or stem in usual else stem]
    else:
        names = ("dataset", *FIELDS_OF_MEDIA)
        same = own or not record.differing(spec.comparable(), names)
        other_media = published and spec.dataset != record.store["dataset"]
        parts = ["" if same or (other_media and stem in usual) else stem]
    return re.sub(r"[/\\]", "-", "-".join(part for part in parts if part))


def transfer_labels(record: RunRecord, evaluation: Evaluation) -> tuple[str, str] | None:
    """What a run learnt from and what it was asked about, where these differ.

    Returns:
        Names of tasks where the tasks differ, a manifest's being that of its data; names of data
        sets where only these differ; None for a run that was asked about what it learnt from.
    """
    sets = record.store["dataset"], evaluation.fingerprint["dataset"]
    tasks = record.task, evaluation.task
    if tasks[0] == tasks[1]:
        return None if sets[0] == sets[1] else sets
    learnt, asked = (
        name if task == MANIFEST else task for task, name in zip(tasks, sets, strict=True)
    )
    return learnt, asked


def check_folder(folder: Path, spec: StoreSpec, features: str, root: Path) -> None:
    """Refuse to overwrite what was found with another store of the same name.

    The same vectors about the same files, e.g. a store that was moved, are the same store.

    Raises:
        UsageError: the folder's evaluation read another store that lies elsewhere.
    """
    try:
        before = read_evaluation(folder)
    except (MissingFileError, MalformedFileError):
        return  # there is nothing, or nothing whole, to lose
    same = before.fingerprint == spec.comparable() and before.data_root == str(root)
    if before.features and before.features != features and not same:
        raise UsageError(
            f"{folder} holds the evaluation of another store, {before.features}, and {features} "
            f"would take its place: rename one of the stores, or keep the old result with "
            f"`mv {folder} {folder}-before`"
        )


def check_run_store(record: RunRecord, spec: StoreSpec, path: str) -> None:
    """Compare a store's vectors with those that the run was trained on.

    A run that learnt from photos may be asked about clips, and the other way round, if the encoder
    is the same: then fields that say how such media become its input are not compared.

    Raises:
        CacheMismatchError: names every field that differs, with both values.
    """
    found = spec.comparable()
    names = {
        name
        for name in found.keys() | record.store.keys()
        if name in VECTOR_FIELDS
        or (name.startswith("fingerprint.") and not name.startswith(AUGMENTATION_FIELDS))
    }
    if record.differing(found, [MEDIA_FIELD]):
        logger.info(
            "the run learnt from other media; not compared: %s",
            "; ".join(record.differing(found, names & FIELDS_OF_MEDIA)),
        )
        names -= FIELDS_OF_MEDIA
    differing = record.differing(found, names)
    if differing:
        raise CacheMismatchError(
            f"{path} holds other vectors than run {record.name} was trained on: "
            f"{'; '.join(differing)}. Name a matching store with --features, or extract one with "
            "the settings of training"
        )


def find_media(
    spec: StoreSpec, root: Path, *, dataset: str = "", allow_outside: bool = False
) -> Mapping[str, MediaItem]:
    """Every medium by key; empty, with a note, if the files are no longer there.

    They are looked for as extraction was told to, then, for a manifest that has moved, in `root`:
    the file of the same name if extraction was told one, else the folder.

    Args:
        spec: of the store.
        root: where the files of the task lie.
        dataset: as a person names the media, by a `TypedName`; empty for what the store says.
        allow_outside: see `load_media`.
    """
    named = dataset or spec.media or spec.dataset
    reasons = []
    elsewhere = () if dataset else (str(root / Path(named).name), str(root))
    for name in (named, *elsewhere):
        try:
            found = load_media(name, root, allow_outside=allow_outside)
            return {item.key: item for item in found.items}
        except EpalmError as error:
            reasons.append(error)
    logger.warning("the report names its media without showing them: %s", reasons[0])
    return {}
