"""Finding metrics by name and matching predictions with examples."""

import re
import shutil

import pytest

from epalm.errors import DataError, UsageError
from epalm.metrics.exact_scores import label_score, score_exact, score_label
from epalm.metrics.metric_registry import METRICS, load_metric, texts_in_order
from epalm.plugins import TypedName
from epalm.tasks.types import Example, Prediction

EXAMPLES = [Example("k", name, "?", ("yes",), ("yes", "Yeah.")) for name in ("q1", "q2", "q3")]


def predicted(**texts: str) -> list[Prediction]:
    return [Prediction(question_id, "k", text) for question_id, text in texts.items()]


@pytest.mark.parametrize("name", METRICS)
def test_every_listed_metric_loads_and_scores_a_perfect_prediction(name: str) -> None:
    if name == "caption" and shutil.which("java") is None:
        pytest.skip("Java is not installed")
    examples = [Example("k", "q", "?", ("a red dog",), ("a red dog",) * 10)]
    scores = load_metric(name)([Prediction("q", "k", "a red dog")], examples)
    assert scores.headline in scores.values
    assert all(len(column) == 1 for column in scores.per_example.values())
    for metric, column in scores.per_example.items():
        assert scores.values[metric] == pytest.approx(column.mean())


def test_a_metric_can_be_named_by_its_module_and_function() -> None:
    assert load_metric(TypedName("epalm.metrics.exact_scores:score_exact")) is score_exact


@pytest.mark.parametrize(
    "name", ["bleu", "no.such.module:f", "epalm.metrics.exact_scores:nothing", ""]
)
def test_an_unknown_metric_is_a_usage_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="vqa, exact, label, gqa, caption"):
        load_metric(TypedName(name))


def test_predictions_come_in_the_order_of_the_examples() -> None:
    assert texts_in_order(predicted(q3="c", q1="a", q2="b"), EXAMPLES) == ["a", "b", "c"]


def test_a_missing_prediction_is_named() -> None:
    with pytest.raises(DataError, match="question q2 has no prediction"):
        texts_in_order(predicted(q1="a", q3="c"), EXAMPLES)


def test_a_prediction_for_an_unknown_question_is_named() -> None:
    with pytest.raises(DataError, match="question q9 has a prediction but is not in the split"):
        texts_in_order(predicted(q1="a", q2="b", q3="c", q9="d"), EXAMPLES)


def test_two_predictions_for_one_question_are_named() -> None:
    twice = [*predicted(q1="a", q2="b", q3="c"), *predicted(q2="d")]
    with pytest.raises(DataError, match="question q2 has more than one prediction"):
        texts_in_order(twice, EXAMPLES)


def test_many_missing_predictions_are_counted_and_the_first_five_are_named() -> None:
    examples = [Example("k", f"q{row}", "?", ("yes",), ("yes",)) for row in range(9)]
    expected = "question q1 has no prediction; in all 8 of 9 questions: q1, q2, q3, q4, q5, ..."
    with pytest.raises(DataError, match=re.escape(expected)):
        texts_in_order(predicted(q0="a"), examples)


def test_two_missing_predictions_are_both_named() -> None:
    with pytest.raises(DataError, match=r"q2 has no prediction; in all 2 of 3 questions: q2, q3$"):
        texts_in_order(predicted(q1="a"), EXAMPLES)


def test_five_missing_predictions_are_all_named() -> None:
    examples = [Example("k", f"q{row}", "?", ("yes",), ("yes",)) for row in range(6)]
    with pytest.raises(DataError, match=r"in all 5 of 6 questions: q1, q2, q3, q4, q5$"):
        texts_in_order(predicted(q0="a"), examples)


def test_a_question_without_references_is_named() -> None:
    unanswered = [Example("k", "q1", "?", (), ())]
    with pytest.raises(DataError, match="question q1 has no reference"):
        texts_in_order(predicted(q1="a"), unanswered)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(DataError, match="nothing to score"):
        texts_in_order([], [])


def test_exact_match_compares_characters_and_normalized_match_ignores_spelling() -> None:
    scores = score_exact(predicted(q1=" yes ", q2="Yes.", q3="no"), EXAMPLES)
    assert scores.per_example["exact_match"].tolist() == [1.0, 0.0, 0.0]
    assert scores.per_example["normalised_match"].tolist() == [1.0, 1.0, 0.0]
    assert scores.headline == "exact_match"
    assert scores.values["exact_match"] == pytest.approx(1 / 3)


def test_a_label_is_looked_up_after_normalizing_both_sides() -> None:
    label = ("Two dogs", "a dog", "dogs")
    examples = [Example("k", name, "?", label, label, (1.0, 0.3, 0.6)) for name in ("q1", "q2")]
    examples += [Example("k", name, "?", ("no",), ("no",)) for name in ("q3", "q4")]
    scores = score_label(predicted(q1="the 2 dogs.", q2=" a dog", q3="No!", q4="not"), examples)
    assert scores.per_example["accuracy"].tolist() == [1.0, 0.3, 1.0, 0.0]
    assert scores.per_example["exact_match"].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert scores.headline == "accuracy"
    assert scores.values["accuracy"] == pytest.approx(2.3 / 4)


def test_answers_with_equal_normalization_give_their_largest_weight() -> None:
    example = Example("k", "q", "?", ("dog", "the dog"), ("dog", "the dog"), (0.3, 0.9))
    assert label_score("a dog", example) == 0.9
