"""Values of files and command lines as messages quote them: in one line, and cut if long."""

import json
from typing import Any

from epalm.untrusted.json_values import JSON_ERRORS

MAX_QUOTED_CHARACTERS = 60
"""Longer values are cut in messages."""


def cut(text: str, limit: int = MAX_QUOTED_CHARACTERS) -> str:
    """The first `limit` characters of a text, and " ..." if there are more."""
    return text if len(text) <= limit else f"{text[:limit]} ..."


def quote(value: Any) -> str:  # noqa: ANN401 - any value that a file may contain
    """Format a value as JSON for a message, cut; lone surrogates are escaped."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except JSON_ERRORS:
        text = f"a {type(value).__name__} nested too deeply"
    return cut(text.encode("utf-8", "backslashreplace").decode())


def shown(value: object) -> str:
    """Format a value as Python writes it for a message, cut."""
    return cut(repr(value))
