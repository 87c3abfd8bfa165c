"""The rules of lmms-eval for single answers against ours: where they agree and where not."""

import copy
import random

from lmms_eval.api.metrics import exact_match_hf_evaluate
from lmms_eval.tasks.vqav2.utils import vqav2_process_results

import epalm.metrics
from epalm.metrics.vqa_scores import normalized_accuracy

DRAWS = 2000
"""Questions with drawn answers for which both VQA scores are computed."""

WORDS = (
    *("two", "2", "the", "a", "dog", "Dog", "dont", "don't", "yes.", "1,000", "3.5", "o'clock"),
    *("it's", "red/blue", "half-full", "none", "zero", "ten", "T.V.", "U.S.", "", "  ", "cat's"),
    *("50%", "$5", "!", "a?", "x;y", "\n", "\t", "(yes)", "let's", "somebodyd", "12:30", "an"),
)


def check_rules() -> dict[str, int]:
    """Compare rules; returns the number of cases of each.

    Raises:
        SystemExit: a rule is not what README.md says.
    """
    return {"vqa": _check_vqa(), "unanimous": _check_unanimous(), "gqa": _check_gqa()}


def _their_vqa(prediction: str, answers: list[str]) -> float:
    people = [
        {"answer": text, "answer_id": number, "answer_confidence": "yes"}
        for number, text in enumerate(answers, start=1)
    ]
    document = {"question_id": 1, "answers": copy.deepcopy(people)}
    return float(vqav2_process_results(document, [prediction.strip()])["exact_match"])


def _check_vqa() -> int:
    """Its score is our normalised_accuracy for any answers."""
    rng = random.Random(0)
    for _ in range(DRAWS):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(3)]
        answers = [rng.choice(texts) for _ in range(10)]
        prediction = rng.choice(texts)
        theirs, ours = _their_vqa(prediction, answers), normalized_accuracy(prediction, answers)
        if abs(theirs - ours) > 1e-9:
            raise SystemExit(f"VQA: {prediction!r} against {answers}: {theirs} and {ours}")
    return DRAWS


def _check_unanimous() -> int:
    """The official rule compares answers of which all ten are equal without normalization."""
    cases = (("circle", ["Circle."] * 10, 1.0, 0.0), ("yes", ["yes"] * 10, 1.0, 1.0))
    for prediction, answers, theirs, official in cases:
        found = _their_vqa(prediction, answers), epalm.metrics.vqa_accuracy([prediction], [answers])
        if found != (theirs, official):
            raise SystemExit(f"VQA: {prediction!r} against ten {answers[0]!r}: {found}")
    return len(cases)


def _check_gqa() -> int:
    """Its exact match drops case and punctuation, and knows no number words or articles."""
    cases = (("Circle.", "circle", 1.0), ("two", "2", 0.0), ("a dog", "dog", 0.0))
    for prediction, answer, expected in cases:
        found = exact_match_hf_evaluate(
            [prediction], [answer], ignore_case=True, ignore_punctuation=True
        )
        if (
            float(found["exact_match"]) != expected
            or normalized_accuracy(prediction, [answer] * 10) != 1.0
        ):
            raise SystemExit(f"GQA: {prediction!r} against {answer!r}: {found}")
    return len(cases)
