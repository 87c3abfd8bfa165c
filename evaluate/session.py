"""From a run's folder and the name of a split to an evaluation and its files."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from epalm.cache.blind import BlindSource
from epalm.cache.plan import AUTO
from epalm.cache.reader import open_reader
from epalm.cache.source import FeatureSource
from epalm.cache.store import Store
from epalm.devices import peak_device_memory
from epalm.errors import DataError, MissingFileError
from epalm.evaluate.asked import about, asked_task, check_folder, check_store, taught_split
from epalm.evaluate.groups import breakdowns
from epalm.evaluate.pages import write_page
from epalm.evaluate.predict import predict
from epalm.evaluate.protocol import Protocol, Way
from epalm.evaluate.records import (
    Answered,
    Evaluation,
    make_folder,
    remove_empty,
    write_answers,
    write_evaluation,
)
from epalm.evaluate.scoring import corpus_scores
from epalm.evaluate.settings import data_words, readable_settings
from epalm.memory import peak_memory
from epalm.metrics.registry import Metric, Scores, check_scorable, load_final_metric
from epalm.model.run_record import ADAPTER_FILE, RECORD_FILE, RunRecord
from epalm.model.saved import LoadedRun, load_run
from epalm.tasks.files import check_split
from epalm.tasks.records import Example, Prediction, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        run: the run's folder.
        split: name of the split.
        task: what is asked; empty for what the run learnt.
        features: path or URL of the store; None for the one the run was trained on.
        data_root: where the task's files lie; None for where they lay in training.
        dataset: the set of media that the report shows; empty for what the store names.
        device: e.g. "cpu" or "cuda".
        batch_size: examples generated together.
        blind: read each record from another one's row; a run trained blind always does.
        limit: only the first examples of the split; 0 for all.
        reader: how vectors are read, "auto" or one of `epalm.cache.plan.LOCAL_READERS`.
        quiet: show no progress.
        protocol: what is to differ from the run's own way of answering.
    """

    run: Path
    split: str
    task: str = ""
    features: str | None = None
    data_root: Path | None = None
    dataset: str = ""
    device: str = "cpu"
    batch_size: int = 64
    blind: bool = False
    limit: int = 0
    reader: str = AUTO
    quiet: bool = False
    protocol: Protocol = field(default_factory=Protocol)


@dataclass(frozen=True)
class Finished:
    """An evaluation and the folder that holds its files."""

    evaluation: Evaluation
    folder: Path


@dataclass(frozen=True)
class _Plan:
    """A request of which is known all that can be without a model.

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

    request: Request
    features: str
    task: Task
    root: Path
    source: FeatureSource
    split_size: int
    asked: Sequence[Example]
    examples: Sequence[Example]
    metric: Metric
    way: Way
    blind: bool
    folder: Path


def find_run(runs: Path, name: str = "") -> Path:
    """The folder of a run.

    Args:
        runs: folder of all runs.
        name: of a run in it, or the path of one; empty for the newest that has learnt something.

    Raises:
        MissingFileError: there is no such run, or no run at all.
    """
    if name:
        folder = Path(name) if (Path(name) / RECORD_FILE).is_file() else runs / name
        if not (folder / RECORD_FILE).is_file():
            raise MissingFileError(
                f"neither {name} nor {runs / name} holds a {RECORD_FILE}: name a folder that "
                "epalm-train made"
            )
        return folder
    records = sorted(runs.glob(f"*/{RECORD_FILE}"), key=lambda file: file.stat().st_mtime)
    validated = [file.parent for file in records if (file.parent / ADAPTER_FILE).is_file()]
    if not validated:
        found = f"no run among {len(records)} that has finished an epoch" if records else "no run"
        raise MissingFileError(
            f"there is {found} in {runs.absolute()}: train one with `epalm-train`, or name the "
            "folder of one with --run"
        )
    return validated[-1]


def evaluate(request: Request) -> Finished:
    """Generate, score and write RUN/eval/<split>/; the cheap checks come first.

    Raises:
        UnknownSplitError: the task has no such split.
        CacheMismatchError: the store's vectors are others than those the run was trained on.
        MissingToolError: a caption can be scored only by a program that is not installed; the
            predictions are written then.
        DataError: some examples have references and others have none, no medium could be encoded,
            or nothing can be written to the folder.
        UnknownKeyError: the store lacks a medium of the split.
        UsageError: the task, the reader or the way to answer that was asked for cannot work, or
            the folder holds the evaluation of another store.
        MissingFileError: the run has no trained tensors yet, or a data file is absent.
        ModelError: the language model is not the one the run was trained with.
    """
    plan = _plan(request)
    make_folder(plan.folder)
    try:
        evaluation = _evaluation(plan)
        write_evaluation(plan.folder, evaluation)
        if evaluation.scores:
            write_page(request.run, plan.folder, dataset=request.dataset)
    finally:
        remove_empty(plan.folder)
    return Finished(evaluation, plan.folder)


def folder_name(request: Request, way: Way, *, about: str, blind: bool) -> str:
    """The evaluation's folder under RUN/eval: `val`, `val-blind`, `msvd-qa-val-first100-beams3`."""
    asked = f"{about}-{request.split}" if about else request.split
    limited = f"-first{request.limit}" if request.limit else ""
    return f"{asked}{limited}{way.suffix}{'-blind' if blind else ''}"


def _plan(request: Request) -> _Plan:
    record = RunRecord.load(request.run)
    features = request.features or record.features
    store = Store.open(features)
    task, root = asked_task(request.task, record, store.spec, request.data_root)
    check_split(request.split, task.splits, owner=f"task {task.name}")
    check_store(record, store.spec, features)
    whole = task.examples(request.split, root)
    asked = whole[: request.limit or None]
    metric = _metric(task, request.split, asked)
    taught = taught_split(request.run, record, task)
    way = request.protocol.settle(record.decoding, task, root=root, taught=taught)
    keys = [example.key for example in asked]
    source = open_reader(store, reader=request.reader, keys=keys, views=1, task=task.name)
    examples = _encodable(asked, source)
    blind = request.blind or record.blind
    named = about(request.task, task, record, store.spec, features)
    folder = request.run / "eval" / folder_name(request, way, about=named, blind=blind)
    check_folder(folder, store.spec, features, root)
    return _Plan(
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


def _evaluation(plan: _Plan) -> Evaluation:
    request, examples = plan.request, plan.examples
    run = load_run(request.run, request.device)
    started = time.monotonic()
    answered = _answered(plan, run)
    write_answers(plan.folder, answered)  # in case scoring fails
    said = [Prediction(one.id, one.key, one.prediction) for one in answered]
    scores = plan.metric(said, examples)
    kept = {example.question_id for example in examples}
    spec = plan.source.spec
    return Evaluation(
        run=request.run.resolve().name,
        task=plan.task.name,
        kind=plan.task.kind,
        split=request.split,
        blind=plan.blind,
        headline=scores.headline,
        scores=corpus_scores(scores),
        breakdowns=breakdowns(scores, examples),
        settings=readable_settings(
            run.record,
            request.run,
            answering=plan.way.words,
            evaluated_on=data_words(plan.task.name, spec.dataset, plan.features),
        ),
        fingerprint=spec.comparable(),
        skipped=tuple(one.question_id for one in plan.asked if one.question_id not in kept),
        seconds=time.monotonic() - started,
        answered=_scored(answered, scores),
        features=plan.features,
        data_root=str(plan.root),
        device=request.device,
        memory=peak_memory(),
        device_memory=peak_device_memory(),
        left_out=dict(scores.left_out),
        split_size=plan.split_size,
    )


def _answered(plan: _Plan, run: LoadedRun) -> tuple[Answered, ...]:
    """Not scored yet; of a blind control, answers to the vectors of other media of the split."""
    keys = [example.key for example in plan.examples]
    return predict(
        run,
        plan.examples,
        BlindSource(plan.source, [keys], run.record.seed) if plan.blind else plan.source,
        plan.way.answerer(run),
        batch_size=plan.request.batch_size,
        quiet=plan.request.quiet,
    )


def _scored(answered: Sequence[Answered], scores: Scores) -> tuple[Answered, ...]:
    columns = scores.per_example.items()
    return tuple(
        replace(one, scores={name: float(column[row]) for name, column in columns})
        for row, one in enumerate(answered)
    )


def _encodable(examples: Sequence[Example], source: FeatureSource) -> list[Example]:
    valid = source.valid([example.key for example in examples])
    kept = [example for example, ok in zip(examples, valid, strict=True) if ok]
    if not kept:
        raise DataError(
            f"none of the {len(examples)} examples has a medium that could be encoded: see the "
            "store's errors.jsonl"
        )
    return kept
