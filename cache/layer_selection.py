"""Parse `--source-layers`: a choice of encoder blocks as text."""

import re
from collections.abc import Sequence

from epalm.errors import UsageError


def parse_layers(text: str, available: Sequence[int]) -> tuple[int, ...]:
    """The blocks that `--source-layers` selects, in the order of `available`.

    Args:
        text: "all", "last-6", or numbers such as "0,5,11" in any order.
        available: the 0-based blocks to choose from, ascending.

    Raises:
        UsageError: the text has another form, or selects blocks that are not available.
    """
    check_layers(text)
    option = f"--source-layers {text!r}"
    if text == "all":
        return tuple(available)
    if last := re.fullmatch(r"last-([1-9]\d*)", text):
        count = int(last[1])
        if count > len(available):
            raise UsageError(f"{option}: there are {len(available)} blocks, {_join(available)}")
        return tuple(available[-count:])
    selected = {int(number) for number in text.split(",")}
    if missing := sorted(selected - set(available)):
        raise UsageError(
            f"{option}: there is no block {_join(missing)}, the blocks are {_join(available)}"
        )
    return tuple(layer for layer in available if layer in selected)


def check_layers(text: str) -> None:
    """Refuse text that selects no blocks of any encoder.

    Raises:
        UsageError: it is neither "all", nor of the form "last-6" or "0,5,11".
    """
    if not re.fullmatch(r"all|last-[1-9]\d*|\d+(,\d+)*", text):
        raise UsageError(
            f"--source-layers {text!r}: expected all, last-6, or numbers such as 0,5,11"
        )


def _join(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
