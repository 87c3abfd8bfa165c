"""What makes an evaluation's figures doubtful, as sentences for the terminal and the page."""

import logging
from collections.abc import Sequence

from epalm.evaluate.scores.eval_results import Evaluation
from epalm.metrics.answer_variety import low_variety_warning

logger = logging.getLogger(__name__)

NO_MEANS = frozenset((*(f"BLEU-{order}" for order in range(1, 5)), "METEOR"))
"""Scores of a whole set that are no means of the scores of its examples."""

ROUNDING = 0.5e-4
"""Half of the last digit that tables show."""


def doubts(evaluation: Evaluation) -> list[str]:
    """Scores that contradict each other, and answers that are all alike."""
    return [*_contradictions(evaluation), *_alike(evaluation)]


def warn_of(evaluations: Sequence[Evaluation]) -> None:
    """Log them, with the names of the runs where these are several."""
    for one in evaluations:
        for doubt in doubts(one):
            logger.warning("%s%s", f"{one.run}: " if len(evaluations) > 1 else "", doubt)


def _contradictions(evaluation: Evaluation) -> list[str]:
    found = []
    for name, score in evaluation.scores.items():
        column = [one.scores[name] for one in evaluation.answered if name in one.scores]
        if name in NO_MEANS or not column:
            continue
        mean = sum(column) / len(column)
        if abs(mean - score.value) > ROUNDING:
            found.append(
                f"scores.json gives {name} as {100 * score.value:.2f}, the scores of the examples "
                f"in predictions.jsonl have a mean of {100 * mean:.2f}: one of the files was "
                "changed; run `epalm-eval` again"
            )
    return found


def _alike(evaluation: Evaluation) -> list[str]:
    """Of a blind control it is no wonder."""
    answers = [one.prediction for one in evaluation.answered]
    references = [one.references for one in evaluation.answered]
    questions = evaluation.kind == "qa"
    line = "" if evaluation.blind else low_variety_warning(answers, references, questions=questions)
    return [line] if line else []
