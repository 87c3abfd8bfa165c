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
from epalm.evaluate.asked import about, asked_task, check_folder, check_store
from epalm.evaluate.groups import answer_types, breakdowns, question_types
from epalm.evaluate.pages import write_page
from epalm.evaluate.predict import predict
from epalm.evaluate.protocol import Protocol, Way
from epalm.evaluate.records import Answered, Evaluation, write_answers, write_evaluation
from epalm.evaluate.scoring import corpus_scores
from epalm.evaluate.settings import data_words, readable_settings
from epalm.memory import peak_memory
from epalm.metrics.registry import Metric, Scores, check_scorable, load_final_metric
from epalm.model.answering import Answer
from epalm.model.saved import ADAPTER_FILE, RECORD_FILE, LoadedRun, RunRecord, load_run
from epalm.tasks.files import check_split
from epalm.tasks.records import Example, Prediction, Task

logger = logging.getLogger(__name__)

_UNSCORED = Scores({}, {}, headline="")


@dataclass(frozen=True)
class Request:
    """What to evaluate.

    Attributes:
        run: the run's folder.
        split: name of the split.
        task: what is asked; empty for what the run learnt.
        features: path or URL of the store; None for the one the run was trained on.
        data_root: where the task's files lie; None for where they lay in training.
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
        DataError: some examples have references and others have none, or no medium could be
            encoded.
        UnknownKeyError: the store lacks a medium of the split.
        UsageError: the task, the reader or the way to answer that was asked for cannot work, or
            the folder holds the evaluation of another store.
        MissingFileError: the run has no trained tensors yet, or a data file is absent.
        ModelError: the language model is not the one the run was trained with.
    """
    record = RunRecord.load(request.run)
    features = request.features or record.features
    store = Store.open(features)
    task, root = asked_task(request.task, record, store.spec, request.data_root)
    check_split(request.split, task.splits, owner=f"task {task.name}")
    check_store(record, store.spec, features)
    asked = task.examples(request.split, root)[: request.limit or None]
    metric = _metric(task, request.split, asked)
    way = request.protocol.settle(record.decoding, task, root)
    keys = [example.key for example in asked]
    source = open_reader(store, reader=request.reader, keys=keys, views=1)
    examples = _encodable(asked, source)
    named = about(request.task, task, record, store.spec, features)
    blind = request.blind or record.blind
    folder = request.run / "eval" / folder_name(request, way, about=named, blind=blind)
    check_folder(folder, store.spec, features, root)
    evaluation = _evaluation(
        request, task, source, asked, examples, way=way, metric=metric, folder=folder
    )
    evaluation = replace(evaluation, features=features, data_root=str(root))
    write_evaluation(folder, evaluation)
    if evaluation.scores:
        write_page(request.run, folder)
    return Finished(evaluation, folder)


def folder_name(request: Request, way: Way, *, about: str, blind: bool) -> str:
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
    return _UNSCORED


def _evaluation(
    request: Request,
    task: Task,
    source: FeatureSource,
    asked: Sequence[Example],
    examples: Sequence[Example],
    *,
    way: Way,
    metric: Metric,
    folder: Path,
) -> Evaluation:
    run = load_run(request.run, request.device)
    started = time.monotonic()
    answers = _answers(request, run, source, examples, way=way)
    predictions = [
        Prediction(example.question_id, example.key, answer.text)
        for example, answer in zip(examples, answers, strict=True)
    ]
    write_answers(folder, _answered(examples, answers, _UNSCORED))  # in case scoring fails
    scores = metric(predictions, examples)
    kept = {example.question_id for example in examples}
    return Evaluation(
        run=request.run.resolve().name,
        task=task.name,
        kind=task.kind,
        split=request.split,
        blind=request.blind or run.record.blind,
        headline=scores.headline,
        scores=corpus_scores(scores),
        breakdowns=breakdowns(scores, examples),
        settings=readable_settings(
            run.record,
            request.run,
            answering=way.words,
            evaluated_on=data_words(
                task.name, source.spec.dataset, request.features or run.record.features
            ),
        ),
        fingerprint=source.spec.comparable(),
        skipped=tuple(one.question_id for one in asked if one.question_id not in kept),
        seconds=time.monotonic() - started,
        answered=_answered(examples, answers, scores),
        device=request.device,
        memory=peak_memory(),
        device_memory=peak_device_memory(),
        left_out=dict(scores.left_out),
    )


def _answers(
    request: Request,
    run: LoadedRun,
    source: FeatureSource,
    examples: Sequence[Example],
    *,
    way: Way,
) -> list[Answer]:
    """The run's answers; of a blind one, to the vectors of other media of the split."""
    keys = [example.key for example in examples]
    blind = request.blind or run.record.blind
    return predict(
        run,
        examples,
        BlindSource(source, [keys], run.record.seed) if blind else source,
        way.answerer(run),
        batch_size=request.batch_size,
        quiet=request.quiet,
    )


def _answered(
    examples: Sequence[Example], answers: Sequence[Answer], scores: Scores
) -> tuple[Answered, ...]:
    (_, kinds), (_, forms) = question_types(examples), answer_types(examples)
    return tuple(
        Answered(
            id=example.question_id,
            key=example.key,
            prompt=example.prompt,
            prediction=answer.text,
            references=example.references,
            scores={name: float(column[row]) for name, column in scores.per_example.items()},
            question_type=kinds[row] if example.prompt else example.question_type,
            answer_type=forms[row] if example.prompt else "",
            log_probability=answer.log_probability,
            tokens=answer.tokens,
        )
        for row, (example, answer) in enumerate(zip(examples, answers, strict=True))
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
