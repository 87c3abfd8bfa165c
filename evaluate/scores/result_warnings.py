"""Warnings about doubtful results, as sentences for the terminal and the report."""

import logging
from collections.abc import Sequence

from epalm.evaluate.scores.eval_results import Evaluation
from epalm.metrics.answer_variety import low_variety_warning

logger = logging.getLogger(__name__)

NO_MEANS = frozenset((*(f"BLEU-{order}" for order in range(1, 5)), "METEOR"))
"""Corpus scores that are not the mean of the scores of the examples."""

ROUNDING = 0.5e-4
"""Half of the last digit that tables show."""


def warnings_of(evaluation: Evaluation) -> list[str]:
    """Warnings about contradicting scores, and about answers with little variety."""
    return [*_contradictions(evaluation), *_low_variety(evaluation)]


def log_warnings(evaluations: Sequence[Evaluation]) -> None:
    """Log the warnings of each evaluation, with the name of the run if there are several."""
    for evaluation in evaluations:
        for warning in warnings_of(evaluation):
            logger.warning("%s%s", f"{evaluation.run}: " if len(evaluations) > 1 else "", warning)


def _contradictions(evaluation: Evaluation) -> list[str]:
    warnings = []
    for name, score in evaluation.scores.items():
        column = [record.scores[name] for record in evaluation.predictions if name in record.scores]
        if name in NO_MEANS or not column:
            continue
        mean = sum(column) / len(column)
        if abs(mean - score.value) > ROUNDING:
            warnings.append(
                f"scores.json gives {name} as {100 * score.value:.2f}, the scores of the examples "
                f"in predictions.jsonl have a mean of {100 * mean:.2f}: one of the files was "
                "changed; run `epalm-eval` again"
            )
    return warnings


def _low_variety(evaluation: Evaluation) -> list[str]:
    """Empty for a blind control, whose answers are expected to be alike."""
    answers = [record.prediction for record in evaluation.predictions]
    references = [record.references for record in evaluation.predictions]
    questions = evaluation.kind == "qa"
    line = "" if evaluation.blind else low_variety_warning(answers, references, questions=questions)
    return [line] if line else []
