"""Which of an encoder's blocks are meant, in words."""

import re
from collections.abc import Sequence

from epalm.errors import UsageError


def parse_layers(text: str, held: Sequence[int]) -> tuple[int, ...]:
    """The blocks that `--source-layers` names, oldest first.

    Args:
        text: "all", "last-6", or numbers such as "0,5,11" in any order.
        held: the 0-based blocks there are, oldest first.

    Raises:
        UsageError: it says none of these, or names blocks that are not held.
    """
    check_layers(text)
    named = f"--source-layers {text!r}"
    if text == "all":
        return tuple(held)
    if last := re.fullmatch(r"last-([1-9]\d*)", text):
        count = int(last[1])
        if count > len(held):
            raise UsageError(f"{named}: there are {len(held)} blocks, {_listed(held)}")
        return tuple(held[-count:])
    asked = {int(number) for number in text.split(",")}
    if asked - set(held):
        raise UsageError(
            f"{named}: there is no block {_listed(sorted(asked - set(held)))}, the blocks are "
            f"{_listed(held)}"
        )
    return tuple(layer for layer in held if layer in asked)


def check_layers(text: str) -> None:
    """Refuse what names no blocks of any encoder.

    Raises:
        UsageError: it is neither "all", nor of the form "last-6" or "0,5,11".
    """
    if not re.fullmatch(r"all|last-[1-9]\d*|\d+(,\d+)*", text):
        raise UsageError(f"--source-layers {text!r}: wanted all, last-6, or numbers such as 0,5,11")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
