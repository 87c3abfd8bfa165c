"""Texts that fit the position table, and messages about those that don't."""

import pytest

from epalm.errors import ModelError
from epalm.model.engine.length_check import (
    AnswerLimit,
    check_lengths,
    check_prompt_lengths,
    excerpt,
)

LIMIT = AnswerLimit(2, "max_new_tokens", "lower max_new_tokens")


def test_texts_that_fill_all_positions_are_accepted() -> None:
    check_lengths([7, 1], [3, 9], ["a", "b"], positions=10, answer_label=str)
    check_prompt_lengths([8, 1], ["a", "b"], LIMIT, positions=10)
    check_prompt_lengths([], [], LIMIT, positions=10)


def test_the_first_text_that_is_too_long_is_named_with_the_number_of_such_texts() -> None:
    with pytest.raises(ModelError) as caught:
        check_lengths(
            [7, 1, 9],
            [3, 10, 9],
            ["a", "b", "c"],
            positions=10,
            answer_label=lambda index: f"answer {index}",
            source="train: ",
            remedy=", or else",
        )
    assert str(caught.value) == (
        "train: example 'b' has 1 token of prompt and 10 of answer (answer 1), the language model "
        "has 10 positions (too long: 2 of 3 examples): shorten such examples or leave them out, "
        "or else"
    )


@pytest.mark.parametrize(
    ("length", "end"),
    [(9, "leave them out, or lower max_new_tokens"), (10, "leave them out")],
)
def test_a_lower_answer_limit_is_advised_only_where_the_prompt_leaves_a_position(
    length: int, end: str
) -> None:
    with pytest.raises(ModelError, match=rf"and 2 of answer \(max_new_tokens\).*{end}$"):
        check_prompt_lengths([3, length], ["a", "b"], LIMIT, positions=10)


def test_a_long_answer_is_shortened_to_40_characters() -> None:
    assert excerpt("a short answer") == "'a short answer'"
    assert excerpt("word " * 20) == "'" + "word " * 6 + "word ...'"


def test_lengths_of_fewer_answers_than_prompts_are_an_error() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        check_lengths([1, 20], [3], ["a", "b"], positions=10, answer_label=str)
