"""The official VQA accuracy: how many of the other nine people gave the predicted answer."""

from collections.abc import Sequence

import numpy as np

from epalm.errors import DataError
from epalm.metrics.answer_normalization import normalise_answer, remove_punctuation, strip_answer
from epalm.metrics.exact_match import equals_any
from epalm.metrics.metric_registry import Scores, scores_from, texts_in_order
from epalm.tasks.types import Example, Prediction

AGREEING_PEOPLE = 3
"""An answer counts in full when this many of the other people gave it (VQA, Antol et al. 2015)."""


def score_vqa(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric "vqa", for examples whose references are several people's answers.

    Values:
        accuracy: the official soft accuracy; the headline.
        normalised_accuracy: the same with both sides normalised whatever the people said.
        released_accuracy: as the evaluator released with eP-ALM counts it; what its authors' tables
            hold.
        exact_match: the prediction equals any person's answer, character by character.

    Raises:
        DataError: predictions and examples do not match, or an example has too few references for
            any prediction to be fully right.
    """
    texts = texts_in_order(predictions, examples)
    for example in examples:
        _check_people(example)
    pairs = [(text, one.references) for text, one in zip(texts, examples, strict=True)]
    columns = {
        "accuracy": np.array([vqa_accuracy(*pair) for pair in pairs]),
        "normalised_accuracy": np.array([normalised_accuracy(*pair) for pair in pairs]),
        "released_accuracy": np.array([released_accuracy(*pair) for pair in pairs]),
        "exact_match": np.array([float(equals_any(*pair)) for pair in pairs]),
    }
    return scores_from(columns, headline="accuracy")


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Official VQA accuracy of one prediction, 0 to 1.

    Both sides are normalised, unless all people gave the same answer: then the prediction must
    equal it as it stands, outer white space aside.

    Args:
        prediction: the text as generated.
        answers: one per person, ten in VQA.
    """
    said = [strip_answer(answer) for answer in answers]
    if len(set(said)) == 1:
        return _leave_one_out(strip_answer(prediction), said)
    return normalised_accuracy(prediction, said)


def normalised_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """VQA accuracy of one prediction with both sides normalised, 0 to 1.

    The official rule leaves unanimous answers as they are and then misses "Yes." for ten "yes".
    """
    return _leave_one_out(normalise_answer(prediction), [normalise_answer(one) for one in answers])


def released_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The accuracy as the released eP-ALM evaluator counts it, 0 to 1.

    The prediction is always normalised. Answers only lose their punctuation, and not even that if
    all of them are identical; "Two dogs" therefore never matches the answer "Two dogs".
    """
    said = list(answers)
    if len(set(said)) > 1:
        said = [remove_punctuation(answer) for answer in said]
    return _leave_one_out(normalise_answer(prediction), said)


def _leave_one_out(prediction: str, answers: Sequence[str]) -> float:
    """Mean over people of min(1, k / 3), k the number of other people who said `prediction`."""
    agreeing = sum(answer == prediction for answer in answers)
    credits = [
        min(1.0, (agreeing - (answer == prediction)) / AGREEING_PEOPLE) for answer in answers
    ]
    return sum(credits) / len(credits)


def _check_people(example: Example) -> None:
    wanted = AGREEING_PEOPLE + 1
    if len(example.references) < wanted:
        raise DataError(
            f"question {example.question_id} has {len(example.references)} reference answer(s); "
            f"the VQA accuracy needs at least {wanted} people's answers (VQA has ten): "
            'score this task with the metric "exact"'
        )
