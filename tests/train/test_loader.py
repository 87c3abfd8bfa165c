import pytest

from epalm.tasks.records import Example
from epalm.train.loader import draw_answer


def example(answers: tuple[str, ...], weights: tuple[float, ...] = ()) -> Example:
    return Example("k", "q", "why", answers, answers, weights)


def test_answers_are_drawn_in_proportion_to_their_weights() -> None:
    asked = example(("a", "b", "c"), (0.6, 1.0, 0.4))
    drawn = [draw_answer(asked, step / 1000) for step in range(1000)]
    assert [drawn.count(answer) for answer in "abc"] == [300, 500, 200]


def test_answers_without_weights_have_equal_chances() -> None:
    drawn = [draw_answer(example(("a", "b")), step / 1000) for step in range(1000)]
    assert drawn.count("a") == 500


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999])
def test_an_example_nobody_agrees_on_teaches_the_empty_text(chance: float) -> None:
    assert draw_answer(example(("a", "b"), (0.0, 0.0)), chance) == ""
