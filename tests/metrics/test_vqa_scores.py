"""The VQA accuracy against pairs scored by the original evaluators, and worked by hand."""

import json
from pathlib import Path

import pytest

from epalm.errors import DataError
from epalm.metrics.answer_normalization import normalize_answer
from epalm.metrics.vqa_scores import (
    normalized_accuracy,
    released_accuracy,
    score_vqa,
    vqa_accuracy,
)
from epalm.tasks.types import Example, Prediction

DATA = Path(__file__).parent / "data"


def example(question_id: str, *references: str) -> Example:
    return Example("photo", question_id, "what?", references[:1], references)


def test_every_accuracy_of_the_official_evaluator_is_reproduced() -> None:
    pairs = json.loads((DATA / "vqa_scoring.json").read_text(encoding="utf-8"))
    assert len(pairs) == 200
    for pair in pairs:
        ours = vqa_accuracy(pair["prediction"], pair["answers"])
        assert ours == pytest.approx(pair["accuracy"], abs=1e-9), pair


def test_every_accuracy_of_the_official_epalm_evaluator_is_reproduced() -> None:
    pairs = json.loads((DATA / "vqa_scoring_epalm.json").read_text(encoding="utf-8"))
    assert len(pairs) == 200
    for pair in pairs:
        ours = released_accuracy(pair["prediction"], pair["answers"])
        assert ours == pytest.approx(pair["accuracy"], abs=1e-9), pair


@pytest.mark.parametrize(
    ("agreeing", "accuracy"),
    # k of ten people agree: k of them see k - 1 others agree, the other 10 - k see k
    [
        (0, 0.0),
        (1, 9 * (1 / 3) / 10),
        (2, (2 * (1 / 3) + 8 * (2 / 3)) / 10),
        (3, (3 * (2 / 3) + 7) / 10),
        (4, 1.0),
        (9, 1.0),
    ],
)
def test_partial_agreement_gives_the_leave_one_out_mean(agreeing: int, accuracy: float) -> None:
    answers = ["red"] * agreeing + [f"color {i}" for i in range(10 - agreeing)]
    assert vqa_accuracy("Red.", answers) == pytest.approx(accuracy)


def test_unanimous_answers_are_compared_without_normalization() -> None:
    assert vqa_accuracy("Red", ["red"] * 10) == 0.0
    assert vqa_accuracy(" red\n", ["red"] * 10) == 1.0


def test_the_normalized_accuracy_differs_from_the_official_one_for_unanimous_answers_only() -> None:
    assert normalized_accuracy("The Dog.", ["dog"] * 10) == 1.0
    assert vqa_accuracy("The Dog.", ["dog"] * 10) == 0.0
    pairs = json.loads((DATA / "vqa_scoring.json").read_text(encoding="utf-8"))
    differing = [
        pair
        for pair in pairs
        if normalized_accuracy(pair["prediction"], pair["answers"])
        != vqa_accuracy(pair["prediction"], pair["answers"])
    ]
    assert differing
    assert all(len({one.strip() for one in pair["answers"]}) == 1 for pair in differing)


def test_the_released_evaluator_cleans_answers_unless_all_are_identical() -> None:
    sports = ["ping-pong"] * 5 + ["tennis"] * 5
    assert released_accuracy("ping pong", sports) == 1.0
    assert released_accuracy("ping-pong", sports) == 1.0
    assert released_accuracy("ping-pong", ["ping-pong"] * 10) == 0.0


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A Dog.", "dog"),
        ("two  the\tcats", "2 cats"),
        ("ping-pong", "ping pong"),
        ("ping- pong", "ping pong"),
        ("1,000-2,000", "10002000"),
        ("3.5.", "3.5"),
        ("cant", "can't"),
        ("couldn'tve", "couldn't've"),
        ("yalld've", "yalld've"),
        ("y'alld've", "y'all'd've"),
        ("'ow'sat", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("none", "0"),
        ("the", ""),
        ("." * 40, "." * 8),
    ],
)
def test_normalization_follows_the_official_rules(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_the_metric_scores_each_question_and_their_mean() -> None:
    people = ["Two"] * 5 + ["2"] * 5
    examples = [example("a", *people), example("b", *(["cat"] * 10))]
    predictions = [Prediction("b", "photo", "dog"), Prediction("a", "photo", "two")]
    scores = score_vqa(predictions, examples)
    assert scores.headline == "accuracy"
    assert scores.per_example["accuracy"].tolist() == [1.0, 0.0]
    assert scores.per_example["exact_match"].tolist() == [0.0, 0.0]
    # the released evaluator leaves "Two" as it is, so only the five who wrote "2" agree
    assert scores.per_example["released_accuracy"].tolist() == [1.0, 0.0]
    assert scores.values == {
        "accuracy": 0.5,
        "normalised_accuracy": 0.5,
        "released_accuracy": 0.5,
        "exact_match": 0.0,
    }


def test_too_few_people_are_refused_with_the_metric_to_use_instead() -> None:
    with pytest.raises(DataError, match=r'question q7 has 1 .*"exact"'):
        score_vqa([Prediction("q7", "photo", "x")], [example("q7", "x")])


def test_an_accuracy_needs_three_more_people_than_the_one_who_is_compared() -> None:
    prediction = [Prediction("q", "photo", "red")]
    with pytest.raises(DataError, match=r"3 reference answer.* of at least 4 people"):
        score_vqa(prediction, [example("q", "red", "red", "red")])
    assert score_vqa(prediction, [example("q", "red", "red", "red", "red")]).values["accuracy"] == 1


def test_the_first_32_periods_are_removed() -> None:
    assert normalize_answer("a" + 40 * "." + "b") == "a" + 8 * "." + "b"
