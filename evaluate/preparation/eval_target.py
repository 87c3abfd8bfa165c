"""The target of an evaluation: task, feature store and samples."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from epalm.cache.preprocessing_names import written_preprocessing
from epalm.cache.readers.joined.joined_spec import JOINED
from epalm.cache.readers.joined.joined_stores import JoinedStores
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.console import counted
from epalm.errors import (
    CacheMismatchError,
    EpalmError,
    MalformedFileError,
    MissingFileError,
    StoreError,
    UsageError,
)
from epalm.evaluate.scores.eval_results import Evaluation, read_evaluation
from epalm.model.checkpoints.run_record import RunRecord, read_recipe
from epalm.tasks.manifest import TASK as MANIFEST
from epalm.tasks.task_registry import load_media, load_moved_media, load_task, resolve_data_root
from epalm.tasks.types import Example, MediaItem, Task

logger = logging.getLogger(__name__)

FEATURE_FIELDS = ("encoder", "layers", "width", "dtype")
"""Fields of a store, besides its fingerprint, that determine its features.

Others, such as the number of records, may differ: a run can be evaluated on another dataset.
"""

AUGMENTATION_FIELDS = re.compile(rf"fingerprint\.({JOINED}\.\d+\.)?views\.")
"""Beginning of the settings of views 1 and up, which evaluation reads with --views alone."""

PREPROCESSING_FIELD = "fingerprint.preprocessing.name"

MEDIA_FIELD = "fingerprint.media"

MEDIA_FIELDS = frozenset(
    f"fingerprint.{name}"
    for name in ("media", "decode", "frames", "frame_choice", "frames_pool", "time_embedding")
)
"""Settings that turn a sample into the encoder's input; they differ by the kind of media."""


def evaluation_task(
    task: str, record: RunRecord, spec: StoreSpec, data_root: Path | None
) -> tuple[Task, Path]:
    """The task to evaluate and the folder of its files.

    Args:
        task: name given on the command line; empty for the run's own task.
        record: record of the run.
        spec: spec of the store that is read; it records the data root of another task.
        data_root: folder of the task's files; None for the recorded one.

    Raises:
        UsageError: the task does not exist, or the run answers questions and the task needs
            captions, or the reverse.
        DataError: the files do not exist or are malformed.
    """
    name = task or record.task
    recorded = spec.data_root if task else record.data_root
    root = resolve_data_root(data_root, recorded=recorded, task=name)
    try:
        loaded = load_task(name, root)
    except UsageError as error:
        if MANIFEST not in spec.tasks:
            raise
        raise UsageError(
            f"{error}; for the questions of a manifest, as in this store, give --task {MANIFEST}"
        ) from error
    answers = record.model.answers_questions
    if answers != (loaded.kind == "qa"):
        trained, needed = ("answers", "captions") if answers else ("captions", "answers")
        raise UsageError(
            f"run {record.name} was trained to generate {trained}, and {name} needs {needed}: "
            f"choose another --task, or a run that generates {needed} with --run"
        )
    return loaded, root


def training_split(folder: Path, record: RunRecord, task: Task) -> str:
    """The training split of a task: the run's for its own task, else the task's default.

    Args:
        folder: folder of the run, whose recipe.toml names the split it was trained on.
        record: record of the run.
        task: task to evaluate.

    Raises:
        MalformedFileError: recipe.toml is damaged.
    """
    own = read_recipe(folder).get("train_split", "") if task.name == record.task else ""
    return own or task.train_split


def task_title(task: Task, spec: StoreSpec) -> str:
    """The name of a task in folder names: its own, or that of its manifest."""
    return spec.dataset if task.name == MANIFEST else task.name


def evaluation_label(
    option: str, task: Task, record: RunRecord, spec: StoreSpec, features: str
) -> str:
    """The task and the store in the name of an evaluation's folder, e.g. "msvd-qa".

    Args:
        option: task name given on the command line; empty for the run's own task.
        task: task to evaluate.
        record: record of the run.
        spec: spec of the store that is read.
        features: path or URL of the store.

    Returns:
        The task's title if it is not the run's own task, then the store's name without suffix if
        it is not the run's own store and its name is neither `<dataset>_<encoder>`, the default of
        extraction, nor that of its dataset. For the run's own task, a store of the same features
        counts as the run's own. Another store of a manifest is always named, since both may have
        the same files.
    """
    stem = PurePath(features.rstrip("/")).stem
    usual = (spec.dataset, f"{spec.dataset}_{spec.encoder.replace('-', '')}")
    own = features == record.features
    published = task.name != MANIFEST
    if option and not (published and task.name == record.task):
        parts = [task_title(task, spec), "" if own or stem in usual else stem]
    else:
        names = ("dataset", *MEDIA_FIELDS)
        same = own or not record.differing(spec.comparable(), names)
        other_media = published and spec.dataset != record.store["dataset"]
        parts = ["" if same or (other_media and stem in usual) else stem]
    return re.sub(r"[/\\]", "-", "-".join(part for part in parts if part))


def transfer_labels(record: RunRecord, evaluation: Evaluation) -> tuple[str, str] | None:
    """What a run was trained on and what it was evaluated on, if they differ.

    Returns:
        Names of tasks if the tasks differ (a manifest has the name of its data), names of datasets
        if only these differ, and None for a run that was evaluated on the data of its training.
    """
    sets = record.store["dataset"], evaluation.fingerprint["dataset"]
    tasks = record.task, evaluation.task
    if tasks[0] == tasks[1]:
        return None if sets[0] == sets[1] else sets
    trained, evaluated = (
        name if task == MANIFEST else task for task, name in zip(tasks, sets, strict=True)
    )
    return trained, evaluated


def check_folder(
    folder: Path, stores: JoinedStores, features: str, root: Path, *, encoded: Sequence[Example]
) -> None:
    """Refuse to overwrite the evaluation of another store of the same name.

    A store is the same one wherever it is, and also if it has grown since: what counts are its
    settings, and either the folder of the dataset or the examples, each with its sample and its
    references.

    Args:
        folder: folder of the evaluation.
        stores: stores that are read.
        features: path or URL of the store.
        root: folder of the task's files.
        encoded: examples that are to be answered.

    Raises:
        UsageError: the evaluation in the folder read another store.
    """
    try:
        before = read_evaluation(folder)
    except (MissingFileError, MalformedFileError):
        return  # no complete evaluation to lose
    counts = (stores.spec.count, *stores.first.generations.counts)
    generations = [stores.spec.grown_to(count) for count in counts]
    fields = [spec.comparable() for spec in generations]
    answered = [(record.id, record.key, record.references) for record in before.predictions]
    wanted = [(example.question_id, example.key, example.references) for example in encoded]
    same_data = before.data_root == str(root) or answered == wanted
    same = before.fingerprint in fields and same_data
    if before.features and before.features != features and not same:
        raise UsageError(
            f"{folder} has the evaluation of another store, {before.features}, which that of "
            f"{features} would overwrite: rename one of the stores, or keep the old result with "
            f"`mv {folder} {folder}-before`"
        )


def check_run_store(record: RunRecord, spec: StoreSpec, path: str) -> None:
    """Compare the features of a store with those that the run was trained on.

    A run that was trained on images may be evaluated on video, and the reverse, if the encoder is
    the same: then the settings that turn samples into its input are not compared.

    Raises:
        CacheMismatchError: the features differ; the message has every differing field with both
            values.
    """
    fields = spec.comparable()
    names = {
        name
        for name in fields.keys() | record.store.keys()
        if name in FEATURE_FIELDS
        or (name.startswith("fingerprint.") and not AUGMENTATION_FIELDS.match(name))
    }
    if record.differing(fields, [MEDIA_FIELD]):
        logger.info(
            "the run was trained on another kind of media; not compared: %s",
            "; ".join(record.differing(fields, names & MEDIA_FIELDS)),
        )
        names -= MEDIA_FIELDS
    differing = record.differing(fields, names)
    if differing:
        raise CacheMismatchError(
            f"{path} has other features than run {record.name} was trained on: "
            f"{'; '.join(differing)}. Give a matching store with --features, or extract one with "
            f"the settings of training{_preprocessing_option(record, fields)}"
        )


def open_run_stores(
    record: RunRecord,
    features: Sequence[str] | None,
    *,
    common: bool = False,
    concatenate: bool = False,
) -> JoinedStores:
    """The stores to evaluate a run on.

    Args:
        record: record of the run.
        features: path or URL of each store; None for those that the run was trained on.
        common: use the samples that all stores have, see `JoinedStores`.
        concatenate: the given stores are parts of one dataset.

    Raises:
        StoreError: there is no store; where the run or its store have moved, the message says how
            to give its new place.
        UsageError: the run was trained on another number of stores.
    """
    trained = (record.features, *record.joined)
    if features:
        if concatenate or (record.concatenated and len(features) == 1):
            return JoinedStores.open(features, common=common, concatenate=concatenate)
        if record.concatenated or len(features) != len(trained):
            raise UsageError(
                f"run {record.name} was trained on {counted(len(trained), 'store')} "
                f"({record.store.get('encoder')}), found {len(features)}: give --features "
                f"{len(trained)} times, in the order of training"
                + (", with --concatenate" if record.concatenated else "")
            )
        return JoinedStores.open(features, common=common)
    for location in trained:
        if not Store.at(location).exists():
            raise StoreError(
                f"run {record.name} was trained on {location}, where no store is now: give its "
                "place with --features, and that of the dataset with --data-root"
            )
    return JoinedStores.open(trained, common=common, concatenate=record.concatenated)


def _preprocessing_option(record: RunRecord, fields: Mapping[str, str]) -> str:
    """The option that makes a store of the same preprocessing; "" if it is the same."""
    trained = record.store.get(PREPROCESSING_FIELD, "")
    same = not trained or trained == fields.get(PREPROCESSING_FIELD)
    return "" if same else f" (--preprocessing {written_preprocessing(trained)})"


def find_media(
    spec: StoreSpec, root: Path, *, dataset: str = "", allow_outside: bool = False
) -> Mapping[str, MediaItem]:
    """The samples of a store by key; empty, with a warning, if their files no longer exist.

    The dataset is looked up under the name that extraction was given, then, for a manifest that
    has moved, in `root`: the file of the same name, then the folder.

    Args:
        spec: spec of the store.
        root: folder of the task's files.
        dataset: dataset named on the command line, a `TypedName`; empty for the store's.
        allow_outside: whether files outside the folder of the dataset may be read.
    """
    recorded = dataset or spec.media or spec.dataset
    load = load_media if dataset else load_moved_media
    try:
        media = load(recorded, root, allow_outside=allow_outside)
    except EpalmError as error:
        logger.warning("the report names its samples without showing them: %s", error)
        return {}
    return {item.key: item for item in media.items}
