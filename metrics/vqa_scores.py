"""The official VQA accuracy: agreement of a prediction with the answers of ten people."""

from collections.abc import Sequence

import numpy as np

from epalm.errors import DataError
from epalm.metrics.answer_normalization import normalize_answer, remove_punctuation, strip_answer
from epalm.metrics.exact_scores import equals_any
from epalm.metrics.metric_registry import Scores, scores_from, texts_in_order
from epalm.tasks.types import Example, Prediction

AGREEING_PEOPLE = 3
"""An answer scores 1 if at least this many of the other people gave it (Antol et al. 2015)."""


def score_vqa(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Metric "vqa", for examples whose references are the answers of several people.

    Values:
        accuracy: official soft accuracy; the headline.
        normalised_accuracy: the same, with prediction and answers always normalized.
        released_accuracy: accuracy as computed by the official eP-ALM evaluator, which the paper's
            tables report.
        exact_match: whether the prediction equals any person's answer character by character.

    Raises:
        DataError: predictions and examples do not match, or an example has too few references for
            any prediction to score 1.
    """
    texts = texts_in_order(predictions, examples)
    for example in examples:
        _check_people(example)
    pairs = [(text, example.references) for text, example in zip(texts, examples, strict=True)]
    columns = {
        "accuracy": np.array([vqa_accuracy(*pair) for pair in pairs]),
        "normalised_accuracy": np.array([normalized_accuracy(*pair) for pair in pairs]),
        "released_accuracy": np.array([released_accuracy(*pair) for pair in pairs]),
        "exact_match": np.array([float(equals_any(*pair)) for pair in pairs]),
    }
    return scores_from(columns, headline="accuracy")


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Official VQA accuracy of one prediction, 0 to 1.

    Prediction and answers are normalized, except if all people gave the same answer: then the
    prediction must equal it exactly, apart from surrounding white space.

    Args:
        prediction: generated text.
        answers: one answer per person, ten in VQA.
    """
    stripped = [strip_answer(answer) for answer in answers]
    if len(set(stripped)) == 1:
        return _leave_one_out(strip_answer(prediction), stripped)
    return normalized_accuracy(prediction, stripped)


def normalized_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """VQA accuracy of one prediction with prediction and answers always normalized, 0 to 1.

    The official rule does not normalize unanimous answers: "Yes." scores 0 against ten "yes".
    """
    normalized = [normalize_answer(answer) for answer in answers]
    return _leave_one_out(normalize_answer(prediction), normalized)


def released_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Accuracy of one prediction as computed by the official eP-ALM evaluator, 0 to 1.

    The prediction is always normalized. From the answers only punctuation is removed, and not even
    that if all of them are identical. So "Two dogs" never matches the answer "Two dogs".
    """
    cleaned = list(answers)
    if len(set(cleaned)) > 1:
        cleaned = [remove_punctuation(answer) for answer in cleaned]
    return _leave_one_out(normalize_answer(prediction), cleaned)


def _leave_one_out(prediction: str, answers: Sequence[str]) -> float:
    """Mean over people of min(1, k / 3), where k other people gave the answer `prediction`."""
    agreeing = sum(answer == prediction for answer in answers)
    credits = [
        min(1.0, (agreeing - (answer == prediction)) / AGREEING_PEOPLE) for answer in answers
    ]
    return sum(credits) / len(credits)


def _check_people(example: Example) -> None:
    least = AGREEING_PEOPLE + 1
    if len(example.references) < least:
        raise DataError(
            f"question {example.question_id} has {len(example.references)} reference answer(s); "
            f"VQA accuracy needs the answers of at least {least} people (VQA has ten): "
            'use the metric "exact" for this task'
        )
