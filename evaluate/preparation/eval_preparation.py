"""What to evaluate, checked as far as it can be without torch and without a model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from epalm.cache.media_check import warn_about_changed_media
from epalm.cache.readers.feature_source import NumpySource
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.readers.reader_choice import AUTO
from epalm.cache.store import Store
from epalm.devices import check_device_name
from epalm.errors import DataError
from epalm.evaluate.preparation.decoding_overrides import AnswerMethod, DecodingOverrides
from epalm.evaluate.preparation.eval_target import (
    asked_task,
    check_folder,
    check_run_store,
    evaluation_label,
    training_split,
)
from epalm.metrics.metric_registry import Metric, Scores, check_scorable, load_final_metric
from epalm.model.checkpoints.run_record import RunRecord
from epalm.tasks.readers.data_files import check_split
from epalm.tasks.types import Example, Prediction, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalConfig:
    """What to evaluate.

    Attributes:
        run: the run's folder.
        split: name of the split.
        task: what is asked; empty for what the run learnt.
        features: path or URL of the store; None for the one the run was trained on.
        data_root: where the task's files lie; None for where they lay in training.
        dataset: the set of media that the report shows; empty for what the store names.
        allow_outside: show media outside the data set's folder, too.
        device: e.g. "cpu" or "cuda".
        batch_size: examples generated together.
        blind: read each record from another one's row; a run trained blind always does.
        limit: only the first examples of the split; 0 for all.
        reader: how vectors are read, "auto" or one of
            `epalm.cache.readers.reader_choice.LOCAL_READERS`.
        quiet: show no progress.
        protocol: what is to differ from the run's own way of answering.
    """

    run: Path
    split: str
    task: str = ""
    features: str | None = None
    data_root: Path | None = None
    dataset: str = ""
    allow_outside: bool = False
    device: str = "cpu"
    batch_size: int = 64
    blind: bool = False
    limit: int = 0
    reader: str = AUTO
    quiet: bool = False
    protocol: DecodingOverrides = field(default_factory=DecodingOverrides)


@dataclass(frozen=True)
class PreparedEvaluation:
    """A request, checked, and all that is known of it without a model.

    Attributes:
        request: itself.
        features: path or URL of the store that is read.
        task: what is asked.
        root: where its files lie.
        source: reads the store.
        split_size: how many examples the split has.
        asked: those that are asked.
        examples: those of them whose media are encoded.
        metric: what scores the answers.
        way: to answer.
        blind: read each record from another one's row.
        folder: for the results.
    """

    request: EvalConfig
    features: str
    task: Task
    root: Path
    source: NumpySource
    split_size: int
    asked: Sequence[Example]
    examples: Sequence[Example]
    metric: Metric
    way: AnswerMethod
    blind: bool
    folder: Path


def prepare(request: EvalConfig) -> PreparedEvaluation:
    """Check a request, cheap checks first, and read the examples; nothing here imports torch.

    Raises:
        UnknownSplitError: the task has no such split.
        CacheMismatchError: the store's vectors are others than those the run was trained on.
        MissingToolError: the task's metric needs a program that is not installed.
        DataError: some examples have references and others have none, or no medium could be
            encoded.
        UnknownKeyError: the store lacks a medium of the split.
        UsageError: the task, the reader, the device or the way to answer that was asked for cannot
            work, or the folder holds the evaluation of another store.
        MissingFileError: a data file is absent.
    """
    check_device_name(request.device)
    record = RunRecord.load(request.run)
    features = request.features or record.features
    store = Store.open(features)
    task, root = asked_task(request.task, record, store.spec, request.data_root)
    check_split(request.split, task.splits, owner=f"task {task.name}")
    check_run_store(record, store.spec, features)
    whole = task.examples(request.split, root)
    asked = whole[: request.limit or None]
    metric = _metric(task, request.split, asked)
    taught = training_split(request.run, record, task)
    way = request.protocol.settle(record.decoding, task, root=root, taught=taught)
    keys = [example.key for example in asked]
    source = open_reader(store, reader=request.reader, keys=keys, views=1, task=task.name)
    examples = _encodable(asked, source)
    rows = source.rows([example.key for example in examples])
    warn_about_changed_media(store, rows, root=str(root), seed=record.seed)
    blind = request.blind or record.blind
    named = evaluation_label(request.task, task, record, store.spec, features)
    folder = request.run / "eval" / folder_name(request, way, about=named, blind=blind)
    check_folder(folder, store.spec, features, root)
    return PreparedEvaluation(
        request=request,
        features=features,
        task=task,
        root=root,
        source=source,
        split_size=len(whole),
        asked=asked,
        examples=examples,
        metric=metric,
        way=way,
        blind=blind,
        folder=folder,
    )


def folder_name(request: EvalConfig, way: AnswerMethod, *, about: str, blind: bool) -> str:
    """The evaluation's folder under RUN/eval: `val`, `val-blind`, `msvd-qa-val-first100-beams3`."""
    asked = f"{about}-{request.split}" if about else request.split
    limited = f"-first{request.limit}" if request.limit else ""
    return f"{asked}{limited}{way.suffix}{'-blind' if blind else ''}"


def _metric(task: Task, split: str, asked: Sequence[Example]) -> Metric:
    """The task's, or one that finds nothing where the split's answers are not published."""
    if asked and not any(one.references for one in asked):
        logger.warning("%s has no answers to score against: predictions only", split)
        return _nothing
    check_scorable(asked)
    return load_final_metric(task.metric)


def _nothing(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    del predictions, examples
    return Scores({}, {}, headline="")


def _encodable(examples: Sequence[Example], source: NumpySource) -> list[Example]:
    valid = source.valid([example.key for example in examples])
    kept = [example for example, ok in zip(examples, valid, strict=True) if ok]
    if not kept:
        raise DataError(
            f"none of the {len(examples)} examples has a medium that could be encoded: see the "
            "store's errors.jsonl"
        )
    return kept
