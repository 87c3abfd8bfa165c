"""Detection of models that give the same few answers to everything."""

import pytest

from epalm.metrics.answer_variety import low_variety_warning

YES_NO = [("yes",), ("no",)] * 50


def test_captions_that_are_nearly_all_the_same_give_a_warning() -> None:
    references = [(f"caption {row}",) for row in range(100)]
    line = low_variety_warning(["a man"] * 99 + ["a dog"], references, questions=False)
    assert line.startswith('only 2 of 100 captions are distinct, and 99 % are "a man"')


@pytest.mark.parametrize(
    ("answers", "warned"),
    [
        (["yes", "no"] * 50, False),  # the same frequencies as the references
        (["yes"] * 60 + ["no"] * 40, False),
        (["yes"] * 100, True),
        (["lamp", "cup"] * 50, True),
        ([str(row) for row in range(5)] * 20, False),  # 5 % are distinct
        (["yes"] * 39, False),  # too few to judge
    ],
)
def test_answers_to_questions_may_repeat_as_often_as_the_references(
    answers: list[str],
    *,
    warned: bool,
) -> None:
    assert bool(low_variety_warning(answers, YES_NO[: len(answers)], questions=True)) is warned


def test_twice_the_frequency_among_the_references_is_not_suspicious_yet() -> None:
    references = [("yes",)] * 30 + [("no",)] * 70
    for times, warned in ((60, False), (61, True)):
        answers = ["yes"] * times + ["no"] * (100 - times)
        assert bool(low_variety_warning(answers, references, questions=True)) is warned


def test_without_references_one_answer_to_half_of_the_questions_gives_a_warning() -> None:
    nothing: list[tuple[str, ...]] = [()] * 100
    some = [str(row % 3) for row in range(40)]
    assert low_variety_warning(["yes"] * 60 + some, nothing, questions=True)
    assert low_variety_warning(["yes"] * 45 + ["no"] * 55, nothing, questions=True)
    assert low_variety_warning((["a", "b", "c", "d"] * 25), nothing, questions=True) == ""


def test_forty_answers_are_the_fewest_that_are_judged() -> None:
    nothing: list[tuple[str, ...]] = [()] * 40
    assert low_variety_warning(["a"] * 39, nothing[:39], questions=False) == ""
    assert low_variety_warning(["a"] * 40, nothing, questions=False)


def test_a_long_caption_is_cut_to_forty_characters() -> None:
    nothing: list[tuple[str, ...]] = [()] * 50
    line = low_variety_warning(["x" * 40] * 50, nothing, questions=False)
    assert '"' + "x" * 40 + '"' in line
    line = low_variety_warning(["x" * 41] * 50, nothing, questions=False)
    assert '"' + "x" * 40 + ' ..."' in line
