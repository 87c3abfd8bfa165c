"""Values of files as messages quote them."""

import pytest

from epalm.untrusted.quoted_values import cut, quote, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ("Où", '"Où"'),
        ("\ud83d", '"\\ud83d"'),
        ("x" * 59, '"' + "x" * 59 + " ..."),
    ],
)
def test_a_value_is_quoted_as_json_and_cut_after_60_characters(value: object, text: str) -> None:
    assert quote(value) == text


def test_a_value_that_is_nested_too_deeply_is_described() -> None:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    assert quote(value) == "a list nested too deeply"


def test_a_text_is_cut_at_its_limit_only() -> None:
    assert (cut("abc", 3), cut("abcd", 3)) == ("abc", "abc ...")
    assert shown("it's\n") == '"it\'s\\n"'
