"""TOML texts that anybody may have written, with every kind of failure known."""

import tomllib
from typing import Any

SHOWN_CHARACTERS = 60
"""A value that a message quotes is cut after this many characters."""


def parse_toml(text: str) -> dict[str, Any]:
    """The keys of a TOML document.

    Raises:
        ValueError: it is not TOML, or it has an integer of thousands of digits or a nesting that is
            deeper than the stack.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("arrays or tables are nested too deeply") from error


def shown(value: object) -> str:
    """A parsed value for a message, cut after `SHOWN_CHARACTERS`."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
