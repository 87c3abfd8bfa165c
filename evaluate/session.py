"""From a run's folder and the name of a split to an evaluation and its files."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from epalm.cache.blind import BlindSource
from epalm.cache.plan import AUTO
from epalm.cache.reader import open_reader
from epalm.cache.source import FeatureSource
from epalm.cache.store import Store
from epalm.errors import DataError, MissingFileError
from epalm.evaluate.asked import asked_task, check_store, find_media, title_of
from epalm.evaluate.predict import predict
from epalm.evaluate.protocol import Protocol, Way
from epalm.evaluate.records import Answered, Evaluation, Score, write_evaluation
from epalm.evaluate.report import ReportData, write_report
from epalm.evaluate.settings import readable_settings
from epalm.metrics.intervals import GroupMean, bootstrap_interval, group_means
from epalm.metrics.registry import Scores, check_scorable, load_metric
from epalm.model.saved import ADAPTER_FILE, RECORD_FILE, RunRecord, load_run
from epalm.model.variants import find_variant
from epalm.tasks.files import check_split
from epalm.tasks.records import Example, Prediction, Task

REPORT_FILE = "report.html"
METRICS_FILE = "metrics.jsonl"


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
        MissingToolError: the metric needs a program that is not installed.
        DataError: an example has no reference, or no medium could be encoded.
        UnknownKeyError: the store lacks a medium of the split.
        UsageError: the task, the reader or the way to answer that was asked for cannot work.
        MissingFileError: the run has no trained tensors yet, or a data file is absent.
        ModelError: the language model is not the one the run was trained with.
    """
    record = RunRecord.load(request.run)
    features = request.features or record.features
    store = Store.open(features)
    task, root = asked_task(request.task, record, store.spec, request.data_root)
    check_split(request.split, task.splits, owner=f"task {task.name}")
    load_metric(task.metric)
    check_store(record, store.spec, features)
    asked = task.examples(request.split, root)[: request.limit or None]
    check_scorable(asked)
    way = request.protocol.settle(record.decoding, task, root)
    keys = [example.key for example in asked]
    source = open_reader(store, reader=request.reader, keys=keys, views=1)
    examples = _encodable(asked, source)
    evaluation = _evaluation(request, task, source, asked, examples, way=way)
    about = title_of(task, store.spec) if request.task else ""
    folder = request.run / "eval" / folder_name(request, way, about=about, blind=evaluation.blind)
    write_evaluation(folder, evaluation)
    data = ReportData(
        title=f"{evaluation.run}, {evaluation.split}",
        lead=_lead(record),
        evaluations=(evaluation,),
        media=find_media(source.spec, root),
        metrics_files=(request.run / METRICS_FILE,),
    )
    write_report(folder / REPORT_FILE, data)
    return Finished(evaluation, folder)


def folder_name(request: Request, way: Way, *, about: str, blind: bool) -> str:
    """The evaluation's folder under RUN/eval: `val`, `val-blind`, `msvd-qa-val-first100-beams3`."""
    asked = f"{about}-{request.split}" if about else request.split
    limited = f"-first{request.limit}" if request.limit else ""
    return f"{asked}{limited}{way.suffix}{'-blind' if blind else ''}"


def corpus_scores(scores: Scores) -> dict[str, Score]:
    """The scores, with intervals for those that are means over examples."""
    return {
        name: Score(value, *bootstrap_interval(scores.per_example[name]))
        if name in scores.per_example
        else Score(value)
        for name, value in scores.values.items()
    }


def breakdowns(scores: Scores, examples: Sequence[Example]) -> dict[str, tuple[GroupMean, ...]]:
    """The headline's mean by question type and by answer type, where examples have them."""
    column = scores.per_example.get(scores.headline)
    if column is None:
        return {}
    tables = {
        "answer type": tuple(group_means(column, [one.answer_type for one in examples])),
        "question type": tuple(group_means(column, [one.question_type for one in examples])),
    }
    return {name: groups for name, groups in tables.items() if groups}


def _evaluation(
    request: Request,
    task: Task,
    source: FeatureSource,
    asked: Sequence[Example],
    examples: Sequence[Example],
    *,
    way: Way,
) -> Evaluation:
    run = load_run(request.run, request.device)
    blind = request.blind or run.record.blind
    keys = [example.key for example in examples]
    read_from = BlindSource(source, [keys], run.record.seed) if blind else source
    started = time.monotonic()
    predictions = predict(
        run,
        examples,
        read_from,
        way.answerer(run),
        batch_size=request.batch_size,
        quiet=request.quiet,
    )
    scores = load_metric(task.metric)(predictions, examples)
    kept = {example.question_id for example in examples}
    return Evaluation(
        run=request.run.resolve().name,
        task=task.name,
        kind=task.kind,
        split=request.split,
        blind=blind,
        headline=scores.headline,
        scores=corpus_scores(scores),
        breakdowns=breakdowns(scores, examples),
        settings=readable_settings(run.record, request.run, answering=way.words),
        fingerprint=source.spec.comparable(),
        skipped=tuple(one.question_id for one in asked if one.question_id not in kept),
        seconds=time.monotonic() - started,
        answered=_answered(examples, predictions, scores),
    )


def _answered(
    examples: Sequence[Example], predictions: Sequence[Prediction], scores: Scores
) -> tuple[Answered, ...]:
    return tuple(
        Answered(
            id=example.question_id,
            key=example.key,
            prompt=example.prompt,
            prediction=prediction.text,
            references=example.references,
            scores={name: float(column[row]) for name, column in scores.per_example.items()},
        )
        for row, (example, prediction) in enumerate(zip(examples, predictions, strict=True))
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


def _state(record: RunRecord) -> str:
    return find_variant(record.model.variant).language_model


def _lead(record: RunRecord) -> str:
    return (
        f"{record.trained:,} trained parameters let the {_state(record)} language model "
        f"{Path(record.model.lm).name} read the vectors of {record.store['encoder']}."
    )
