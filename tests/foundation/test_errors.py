import inspect
import re
from collections.abc import Iterator

import pytest

from epalm import errors
from epalm.errors import EpalmError

ENTRY = re.compile(r"^(?P<lines>[ │├└─]*)(?P<name>[A-Z]\w+) +(?P<code>\d+) +\S")


def drawn() -> Iterator[tuple[str, str, int]]:
    """(class, class above, exit code) of each line of the tree in the head of errors.py."""
    above: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        actual = ENTRY.match(line)
        if actual:
            depth = (len(actual["lines"]) - 4) // 4
            above = [*above[:depth], actual["name"]]
            yield actual["name"], above[-2] if depth else "Exception", int(actual["code"])


def all_classes() -> dict[str, type[EpalmError]]:
    actual = inspect.getmembers(errors, inspect.isclass)
    return {name: value for name, value in actual if issubclass(value, EpalmError)}


def test_the_tree_in_the_head_names_every_class() -> None:
    assert [name for name, _, _ in drawn()] != []
    assert sorted(name for name, _, _ in drawn()) == sorted(all_classes())


@pytest.mark.parametrize(("name", "above", "code"), list(drawn()))
def test_each_class_stands_where_the_tree_shows_it_with_that_exit_code(
    name: str, above: str, code: int
) -> None:
    error = all_classes()[name]
    assert error.__bases__[0].__name__ == above
    assert error.exit_code == code


@pytest.mark.parametrize("name", sorted(all_classes()))
def test_each_message_is_printed_as_it_was_written(name: str) -> None:
    assert str(all_classes()[name]("no 'such' thing")) == "no 'such' thing"
