"""From a run's folder and the name of a split to an evaluation and its files."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.devices import peak_device_memory, pick_device
from epalm.evaluate.predict import answerer, predict
from epalm.evaluate.preparation.eval_preparation import EvalConfig, PreparedEvaluation, prepare
from epalm.evaluate.preparation.run_settings import data_words, readable_settings
from epalm.evaluate.report.report_files import write_page
from epalm.evaluate.scores.breakdowns import breakdowns
from epalm.evaluate.scores.eval_results import (
    Evaluation,
    PredictionRecord,
    make_folder,
    remove_empty,
    write_answers,
    write_evaluation,
)
from epalm.evaluate.scores.scoring import corpus_scores
from epalm.metrics.metric_registry import Scores
from epalm.model.checkpoints.run_io import LoadedRun, load_run
from epalm.system_memory import peak_memory
from epalm.tasks.types import Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation and the folder that holds its files."""

    evaluation: Evaluation
    folder: Path


def evaluate(request: EvalConfig) -> EvaluationResult:
    """Generate, score and write RUN/eval/<split>/; see `prepare` and `evaluate_prepared`."""
    return evaluate_prepared(prepare(request))


def evaluate_prepared(plan: PreparedEvaluation) -> EvaluationResult:
    """Generate, score and write RUN/eval/<split>/.

    Raises:
        MissingToolError: a caption can be scored only by a program that is not installed; the
            predictions are written then.
        DataError: nothing can be written to the folder.
        UsageError: there is no such device.
        MissingFileError: the run has no trained tensors yet.
        ModelError: the language model is not the one the run was trained with.
    """
    device = pick_device(plan.request.device)
    plan = replace(plan, request=replace(plan.request, device=device))
    make_folder(plan.folder)
    try:
        evaluation = _evaluation(plan)
        write_evaluation(plan.folder, evaluation)
        if evaluation.scores:
            write_page(
                plan.request.run,
                plan.folder,
                dataset=plan.request.dataset,
                allow_outside=plan.request.allow_outside,
            )
    finally:
        remove_empty(plan.folder)
    return EvaluationResult(evaluation, plan.folder)


def _evaluation(plan: PreparedEvaluation) -> Evaluation:
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
            precision=run.precision,
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


def _answered(plan: PreparedEvaluation, run: LoadedRun) -> tuple[PredictionRecord, ...]:
    """Not scored yet; of a blind control, answers to the vectors of other media of the split."""
    keys = [example.key for example in plan.examples]
    return predict(
        run,
        plan.examples,
        ShuffledSource(plan.source, [keys], run.record.seed) if plan.blind else plan.source,
        answerer(plan.way, run),
        batch_size=plan.request.batch_size,
        quiet=plan.request.quiet,
    )


def _scored(answered: Sequence[PredictionRecord], scores: Scores) -> tuple[PredictionRecord, ...]:
    columns = scores.per_example.items()
    return tuple(
        replace(one, scores={name: float(column[row]) for name, column in columns})
        for row, one in enumerate(answered)
    )
