"""Models that answer the same thing whatever they are shown."""

import pytest

from epalm.metrics.answer_variety import little_variety

YES_NO = [("yes",), ("no",)] * 50


def test_captions_that_are_all_the_same_are_said_to_be() -> None:
    references = [(f"caption {row}",) for row in range(100)]
    line = little_variety(["a man"] * 99 + ["a dog"], references, questions=False)
    assert line.startswith('only 2 of 100 captions differ, 99 % are "a man"')


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["yes", "no"] * 50, False),  # as the right answers are
        (["yes"] * 60 + ["no"] * 40, False),
        (["yes"] * 100, True),
        (["lamp", "cup"] * 50, True),
        ([str(row) for row in range(5)] * 20, False),  # 5 % differ
        (["yes"] * 39, False),  # too few to tell
    ],
)
def test_answers_to_questions_may_be_as_alike_as_the_right_ones(
    answers: list[str],
    *,
    said: bool,
) -> None:
    assert bool(little_variety(answers, YES_NO[: len(answers)], questions=True)) is said


def test_without_references_one_answer_to_half_of_the_questions_is_remarkable() -> None:
    nothing: list[tuple[str, ...]] = [()] * 100
    some = [str(row % 3) for row in range(40)]
    assert little_variety(["yes"] * 60 + some, nothing, questions=True)
    assert little_variety(["yes"] * 45 + ["no"] * 55, nothing, questions=True)
    assert little_variety((["a", "b", "c", "d"] * 25), nothing, questions=True) == ""
