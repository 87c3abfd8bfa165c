"""Breakdowns by types of the data, or else by the words of question and answer."""

import numpy as np

from epalm.evaluate.scores.breakdowns import breakdowns
from epalm.metrics.metric_registry import Scores
from epalm.tasks.types import Example


def question(prompt: str, *references: str, question_type: str = "") -> Example:
    return Example("k", prompt, prompt, (), references, question_type=question_type)


def scores(*values: float) -> Scores:
    return Scores({"accuracy": 0.5}, {"accuracy": np.array(values)}, "accuracy")


ASKED = [
    question("How many cups are there?", "2", "2", "3"),
    question("how many lamps", "none"),
    question("Is it red?", "yes", "no", "Yes", "yes"),
]


def test_without_types_questions_are_grouped_by_prefix_and_answers_by_their_text() -> None:
    result = breakdowns(scores(1.0, 0.0, 1.0), ASKED)
    assert {
        name: {one.name: (one.mean, one.count) for one in groups} for name, groups in result.items()
    } == {
        "first words": {"how many": (0.5, 2), "is it": (1.0, 1)},
        "form of answer": {"number": (1.0, 1), "other": (0.0, 1), "yes/no": (1.0, 1)},
    }


def test_rare_prefixes_are_one_group() -> None:
    asked = [question("what is it?", "cup")] * 198 + [question("why so?", "cup"), ASKED[2]]
    result = breakdowns(scores(*[1.0] * 199, 0.0), asked)
    assert [(one.name, one.mean, one.count) for one in result["first words"]] == [
        ("what is", 1.0, 198),
        ("rarer words", 0.5, 2),
    ]


def test_types_of_the_data_replace_prefixes() -> None:
    result = breakdowns(scores(1.0, 0.0), [question("a b", "1", question_type="count"), ASKED[1]])
    assert [one.name for one in result["question type"]] == ["count"]
    assert "first words" not in result


def test_captions_are_grouped_only_by_the_data() -> None:
    assert breakdowns(scores(1.0), [question("", "a dog")]) == {}
    photos = [question("", "a dog", question_type="near-domain"), question("", "a cat")]
    result = breakdowns(scores(1.0, 0.0), photos)
    assert {name: [(one.name, one.mean) for one in groups] for name, groups in result.items()} == {
        "group": [("near-domain", 1.0)]
    }
