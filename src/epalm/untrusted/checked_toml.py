"""TOML texts that may be hand-written or damaged: every failure is a ValueError."""

import tomllib
from typing import Any


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
