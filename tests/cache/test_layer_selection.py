import pytest

from epalm.cache.layer_selection import parse_layers
from epalm.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", (6, 7, 8, 11)),
        ("last-1", (11,)),
        ("last-3", (7, 8, 11)),
        ("8", (8,)),
        ("11,6", (6, 11)),
    ],
)
def test_layers_are_selected_in_three_ways_and_returned_in_ascending_order(
    text: str, expected: tuple[int, ...]
) -> None:
    assert parse_layers(text, (6, 7, 8, 11)) == expected


@pytest.mark.parametrize("text", ["", "six", "last-0", "last6", "1-3", "6,,7", "-1"])
def test_other_text_is_a_usage_error_that_names_the_three_ways(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected all, last-6, or numbers such as 0,5,11"):
        parse_layers(text, (6, 7))


@pytest.mark.parametrize(
    ("text", "found"), [("5,7", "no block 5, .* 6, 7"), ("last-3", "2 blocks")]
)
def test_missing_blocks_are_named(text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found):
        parse_layers(text, (6, 7))
