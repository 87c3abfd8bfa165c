"""Evaluate a run on a split: answer, score, write the results and the report."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.devices import peak_device_memory, pick_device
from epalm.evaluate.predict import answer_strategy, predict
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.preparation.eval_preparation import PreparedEvaluation, prepare
from epalm.evaluate.preparation.settings_summary import data_words, readable_settings
from epalm.evaluate.report.report_files import check_control, write_page
from epalm.evaluate.scores.breakdowns import breakdowns
from epalm.evaluate.scores.eval_results import (
    Evaluation,
    PredictionRecord,
    make_folder,
    remove_empty,
    write_evaluation,
    write_predictions,
)
from epalm.evaluate.scores.scoring import corpus_scores
from epalm.hub.card.model_card import write_card
from epalm.metrics.metric_registry import Scores
from epalm.model.checkpoints.adapter_io import LoadedRun, load_run
from epalm.model.checkpoints.run_record import RECORD_FILE
from epalm.system_memory import peak_memory
from epalm.tasks.types import Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationResult:
    """An evaluation and the folder of its files."""

    evaluation: Evaluation
    folder: Path


def evaluate(options: EvalOptions) -> EvaluationResult:
    """Answer, score and write RUN/eval/<split>/; see `prepare` and `evaluate_prepared`."""
    return evaluate_prepared(prepare(options))


def evaluate_prepared(plan: PreparedEvaluation) -> EvaluationResult:
    """Answer, score and write RUN/eval/<split>/.

    Raises:
        MissingToolError: a caption can be scored only by a program that is not installed; the
            predictions are written before.
        DataError: the folder is not writable.
        UsageError: the device does not exist.
        MissingFileError: the run has no trained tensors yet, or its report has to show a blind
            control that does not exist.
        ModelError: the language model is not the one the run was trained with.
    """
    if plan.options.compare_blind:
        check_control(plan.run, plan.folder.name)
    device = pick_device(plan.options.device)
    plan = replace(plan, options=replace(plan.options, device=device))
    make_folder(plan.folder)
    try:
        evaluation = _evaluation(plan)
        write_evaluation(plan.folder, evaluation)
        if evaluation.scores:
            _write_cards(plan.run)
            write_page(
                plan.run,
                plan.folder,
                compare_blind=plan.options.compare_blind,
                dataset=plan.options.dataset,
                allow_outside=plan.options.allow_outside,
            )
    finally:
        remove_empty(plan.folder)
    return EvaluationResult(evaluation, plan.folder)


def _write_cards(run: Path) -> None:
    """Write the model card of a run, and that of the run whose blind control it is."""
    write_card(run)
    seeing = run.with_name(run.name.removesuffix("_blind"))
    if seeing != run and (seeing / RECORD_FILE).is_file():
        write_card(seeing)


def _evaluation(plan: PreparedEvaluation) -> Evaluation:
    options, examples = plan.options, plan.examples
    run = load_run(plan.run, options.device, lm=options.lm)
    started = time.monotonic()
    records = _predict(plan, run)
    write_predictions(plan.folder, records)  # in case scoring fails
    predictions = [Prediction(record.id, record.key, record.prediction) for record in records]
    scores = plan.metric(predictions, examples)
    encoded = {example.question_id for example in examples}
    skipped = [
        example.question_id for example in plan.selected if example.question_id not in encoded
    ]
    spec = plan.source.spec
    return Evaluation(
        run=plan.run.resolve().name,
        task=plan.task.name,
        kind=plan.task.kind,
        split=options.split,
        blind=plan.blind,
        headline=scores.headline,
        scores=corpus_scores(scores),
        breakdowns=breakdowns(scores, examples),
        settings=readable_settings(
            run.record,
            plan.run,
            decoding=plan.method.description,
            evaluated_on=data_words(
                plan.task.name, spec.dataset, plan.features, views=options.views
            ),
            precision=run.precision,
        ),
        fingerprint=spec.comparable(),
        skipped=tuple(skipped),
        seconds=time.monotonic() - started,
        predictions=_scored(records, scores),
        features=plan.features,
        joined=plan.joined,
        data_root=str(plan.root),
        device=options.device,
        memory=peak_memory(),
        device_memory=peak_device_memory(),
        left_out=dict(scores.left_out),
        split_size=plan.split_size,
    )


def _predict(plan: PreparedEvaluation, run: LoadedRun) -> tuple[PredictionRecord, ...]:
    """Predictions without scores; the blind control gets the features of other samples."""
    keys = [example.key for example in plan.examples]
    return predict(
        run,
        plan.examples,
        ShuffledSource(plan.source, [keys], run.record.seed) if plan.blind else plan.source,
        answer_strategy(plan.method, run),
        batch_size=plan.options.batch_size,
        quiet=plan.options.quiet,
    )


def _scored(records: Sequence[PredictionRecord], scores: Scores) -> tuple[PredictionRecord, ...]:
    columns = scores.per_example.items()
    return tuple(
        replace(record, scores={name: float(column[row]) for name, column in columns})
        for row, record in enumerate(records)
    )
