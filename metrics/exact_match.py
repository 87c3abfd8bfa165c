"""Matches of an answer, for questions with one or a few reference answers."""

from collections.abc import Sequence

import numpy as np

from epalm.metrics.answer_normalization import normalise_answer
from epalm.metrics.metric_registry import Scores, scores_from, texts_in_order
from epalm.tasks.types import Example, Prediction


def score_exact(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric "exact".

    Values:
        exact_match: the prediction equals any reference, character by character; the headline.
        normalised_match: likewise after the VQA normalisation of both sides.

    Raises:
        DataError: predictions and examples do not match.
    """
    texts = texts_in_order(predictions, examples)
    pairs = [(text, one.references) for text, one in zip(texts, examples, strict=True)]
    columns = {
        "exact_match": np.array([float(equals_any(*pair)) for pair in pairs]),
        "normalised_match": np.array([float(equals_any_normalised(*pair)) for pair in pairs]),
    }
    return scores_from(columns, headline="exact_match")


def score_label(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric "label": as the released code scores questions about videos.

    Values:
        accuracy: the weight of the answer that the prediction equals after the VQA normalisation of
            both, 1 where the example has no weights, 0 if it equals none; the headline.
        exact_match: the prediction equals any reference, character by character.

    Raises:
        DataError: predictions and examples do not match.
    """
    texts = texts_in_order(predictions, examples)
    pairs = list(zip(texts, examples, strict=True))
    columns = {
        "accuracy": np.array([label_score(text, one) for text, one in pairs]),
        "exact_match": np.array([float(equals_any(text, one.references)) for text, one in pairs]),
    }
    return scores_from(columns, headline="accuracy")


def label_score(prediction: str, example: Example) -> float:
    """The weight of the answer that the prediction is, 0 to 1; the highest if it is several."""
    weights = example.weights or (1.0,) * len(example.answers)
    said = normalise_answer(prediction)
    matching = [
        weight
        for answer, weight in zip(example.answers, weights, strict=True)
        if normalise_answer(answer) == said
    ]
    return max(matching, default=0.0)


def equals_any(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction equals a reference in every character, outer white space aside."""
    return prediction.strip() in {reference.strip() for reference in references}


def equals_any_normalised(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction equals a reference after the VQA normalisation of both."""
    return normalise_answer(prediction) in {normalise_answer(one) for one in references}
