"""TOML texts that may be hand-written or damaged: every failure is a ValueError."""

import tomllib
from typing import Any

SHOWN_CHARACTERS = 60
"""Number of characters after which a quoted value is cut in a message."""


def parse_toml(text: str) -> dict[str, Any]:
    """Parse a TOML document.

    Raises:
        ValueError: the text is not TOML, has an integer of thousands of digits, or is nested
            deeper than the stack.
    """
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("arrays or tables are nested too deeply") from error


def shown(value: object) -> str:
    """Format a parsed value for a message, cut after `SHOWN_CHARACTERS`."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."
