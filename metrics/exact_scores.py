"""Exact-match metrics, for questions with one or a few reference answers."""

from collections.abc import Sequence

import numpy as np

from epalm.metrics.answer_normalization import normalize_answer
from epalm.metrics.metric_registry import Scores, scores_from, texts_in_order
from epalm.tasks.types import Example, Prediction


def score_exact(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Metric "exact".

    Values:
        exact_match: whether the prediction equals any reference character by character; the
            headline.
        normalised_match: the same after VQA normalization of prediction and references.

    Raises:
        DataError: predictions and examples do not match.
    """
    texts = texts_in_order(predictions, examples)
    pairs = [(text, example.references) for text, example in zip(texts, examples, strict=True)]
    columns = {
        "exact_match": np.array([float(equals_any(*pair)) for pair in pairs]),
        "normalised_match": np.array([float(equals_any_normalized(*pair)) for pair in pairs]),
    }
    return scores_from(columns, headline="exact_match")


def score_label(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Metric "label", with which the official implementation scores questions about videos.

    Values:
        accuracy: weight of the answer that the prediction equals after VQA normalization of both; 1
            if the example has no weights, 0 if it equals no answer; the headline.
        exact_match: whether the prediction equals any reference character by character.

    Raises:
        DataError: predictions and examples do not match.
    """
    texts = texts_in_order(predictions, examples)
    pairs = list(zip(texts, examples, strict=True))
    columns = {
        "accuracy": np.array([label_score(*pair) for pair in pairs]),
        "exact_match": np.array(
            [float(equals_any(text, example.references)) for text, example in pairs]
        ),
    }
    return scores_from(columns, headline="accuracy")


def label_score(prediction: str, example: Example) -> float:
    """Weight of the answer that the prediction equals, 0 to 1; the largest if it equals several."""
    weights = example.weights or (1.0,) * len(example.answers)
    normalized = normalize_answer(prediction)
    matching_weights = [
        weight
        for answer, weight in zip(example.answers, weights, strict=True)
        if normalize_answer(answer) == normalized
    ]
    return max(matching_weights, default=0.0)


def equals_any(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction equals a reference, apart from surrounding white space."""
    return prediction.strip() in {reference.strip() for reference in references}


def equals_any_normalized(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction equals a reference after VQA normalization of both."""
    return normalize_answer(prediction) in {normalize_answer(each) for each in references}
