"""Exact match, for questions with one or a few reference answers."""

from collections.abc import Sequence

import numpy as np

from epalm.metrics.normalise import normalise_answer
from epalm.metrics.registry import Scores, scores_from, texts_in_order
from epalm.tasks.records import Example, Prediction


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


def equals_any(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction equals a reference in every character, outer white space aside."""
    return prediction.strip() in {reference.strip() for reference in references}


def equals_any_normalised(prediction: str, references: Sequence[str]) -> bool:
    """Whether the prediction equals a reference after the VQA normalisation of both."""
    return normalise_answer(prediction) in {normalise_answer(one) for one in references}
