"""What to evaluate, checked as far as possible without torch and without a model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from epalm.cache.maintenance.media_check import warn_about_changed_media
from epalm.cache.readers.encoded_examples import encoded_examples
from epalm.cache.readers.feature_source import NumpySource
from epalm.cache.readers.joined.joined_stores import (
    JoinedStores,
    in_all_stores,
    open_joined_reader,
)
from epalm.cache.readers.view_mean import ViewMeanSource
from epalm.cache.storage.local_copies import use_local_cache
from epalm.devices import check_device_name
from epalm.errors import UsageError
from epalm.evaluate.preparation.answer_method import AnswerMethod, answer_method
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.preparation.eval_target import (
    check_folder,
    check_run_store,
    evaluation_label,
    evaluation_task,
    open_run_stores,
    training_split,
)
from epalm.evaluate.preparation.foreign_parts import warn_of_foreign_parts
from epalm.evaluate.preparation.run_lookup import find_run
from epalm.metrics.metric_registry import Metric, Scores, check_scorable, load_final_metric
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.types import Example, Prediction, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedEvaluation:
    """Checked options, and everything that is known without a model.

    Attributes:
        options: the options of the evaluation.
        run: folder of the run.
        features: path or URL of the store that is read, or of the first one.
        joined: paths or URLs of further stores.
        task: task to evaluate.
        root: folder of the task's files.
        source: reader of the store.
        split_size: number of examples in the split.
        selected: examples to evaluate, those without encoded samples included.
        examples: the selected examples whose samples are encoded.
        metric: metric that scores the predictions.
        method: how the questions are answered.
        blind: whether each example gets the features of another sample.
        folder: folder of the results.
    """

    options: EvalOptions
    run: Path
    features: str
    joined: tuple[str, ...]
    task: Task
    root: Path
    source: NumpySource
    split_size: int
    selected: Sequence[Example]
    examples: Sequence[Example]
    metric: Metric
    method: AnswerMethod
    blind: bool
    folder: Path


def prepare(options: EvalOptions) -> PreparedEvaluation:
    """Check the options, cheap checks first, and read the examples; nothing here imports torch.

    Raises:
        UnknownSplitError: the task has no such split.
        CacheMismatchError: the run was trained on other features than those of the store.
        MissingToolError: the task's metric needs a program that is not installed.
        DataError: some examples have references and others have none.
        StoreError: none of the samples could be encoded.
        UnknownKeyError: a sample of the split is not in the store.
        UsageError: the task, the reader, the device or the decoding settings cannot work, or the
            folder has the evaluation of another store.
        MissingFileError: the run or a data file does not exist.
    """
    run = find_run(options.runs, options.run)
    check_device_name(options.device)
    use_local_cache(options.local_cache, options.local_cache_size)
    record = RunRecord.load(run)
    stores = open_run_stores(
        record, options.features, common=options.common, concatenate=options.concatenate
    )
    features, *joined = options.features or (record.features, *record.joined)
    spec = stores.spec
    task, root = evaluation_task(options.task, record, spec, options.data_root)
    check_split(options.split, task.splits, owner=f"task {task.name}")
    check_run_store(record, spec, stores.location)
    split = task.examples(options.split, root)
    if options.common:
        split = in_all_stores(split, stores.index(task.name), options.split)
    selected = split[: options.limit or None]
    metric = _metric(task, options.split, selected)
    source_split = training_split(run, record, task)
    method = answer_method(options, record.decoding, task, root=root, training_split=source_split)
    keys = [example.key for example in selected]
    source = _open_source(stores, options, keys, task.name)
    examples = encoded_examples(selected, source)
    rows = source.rows([example.key for example in examples])
    for store, own in stores.own_rows(stores.index(task.name), rows):
        warn_about_changed_media(store, own, root=str(root), seed=record.seed)
    warn_of_foreign_parts(stores, task, root, keys=keys)
    blind = options.blind or record.blind
    label = evaluation_label(options.task, task, record, spec, features)
    folder = run / "eval" / folder_name(options, method, label=label, blind=blind)
    check_folder(folder, stores, features, root, encoded=examples)
    return PreparedEvaluation(
        options=options,
        run=run,
        features=features,
        joined=tuple(joined),
        task=task,
        root=root,
        source=source,
        split_size=len(split),
        selected=selected,
        examples=examples,
        metric=metric,
        method=method,
        blind=blind,
        folder=folder,
    )


def _open_source(
    stores: JoinedStores, options: EvalOptions, keys: Sequence[str], task: str
) -> NumpySource:
    """The features of view 0, or their mean over the first views.

    Raises:
        UsageError: the store has fewer views, or there are several stores.
    """
    if options.views > 1 and len(stores.stores) > 1:
        raise UsageError("--views averages the views of one store: leave it out for joined stores")
    views = min(options.views, stores.spec.views)
    source = open_joined_reader(stores, reader=options.reader, keys=keys, views=views, task=task)
    return ViewMeanSource(source, options.views) if options.views > 1 else source


def folder_name(options: EvalOptions, method: AnswerMethod, *, label: str, blind: bool) -> str:
    """The evaluation's folder in RUN/eval: `val`, `val-blind`, `msvd-qa-val-views4-beams3`."""
    split = f"{label}-{options.split}" if label else options.split
    limited = f"-first{options.limit}" if options.limit else ""
    averaged = f"-views{options.views}" if options.views > 1 else ""
    return f"{split}{limited}{averaged}{method.suffix}{'-blind' if blind else ''}"


def _metric(task: Task, split: str, examples: Sequence[Example]) -> Metric:
    """The task's metric, or one without scores if the answers of the split are not published."""
    if examples and not any(example.references for example in examples):
        logger.warning("%s has no answers to score against: predictions only", split)
        return _no_scores
    check_scorable(examples)
    return load_final_metric(task.metric)


def _no_scores(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    del predictions, examples
    return Scores({}, {}, headline="")
