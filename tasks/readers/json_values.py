"""JSON values: parsed with every kind of failure known, and quoted in messages."""

import json
import re
from typing import Any

SHOWN_CHARACTERS = 60
"""A value that a message quotes is cut after so many characters."""

NOT_JSON = (ValueError, RecursionError)
"""What parsing raises: no JSON, a whole number of thousands of digits, nesting without end."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character beyond U+FFFF: JSON can escape it, nothing can encode it as UTF-8."""

_DECODER = json.JSONDecoder()

parse = _DECODER.decode
"""The value of a text, as `json.loads` gives it; raises `NOT_JSON`."""


def parse_line(text: str) -> Any:  # noqa: ANN401 - anything that a file may hold
    """The value of a line, as `parse` gives it and raising what it raises, in two thirds the time.

    `parse` looks for white space on both sides. Most lines have only their end.
    """
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError:
        return parse(text)
    return value if text[end:] == "\n" else parse(text)


def described(error: Exception) -> str:
    """Why a text could not be parsed, as a phrase; `error` is one of `NOT_JSON`."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    return "a whole number has too many digits"


def shown(value: Any) -> str:  # noqa: ANN401 - anything that a file may hold
    """A value as JSON for a message, cut after `SHOWN_CHARACTERS`; half characters are escaped."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except NOT_JSON:
        text = f"a {type(value).__name__} nested too deeply"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ..."


def unusable(value: Any) -> str:  # noqa: ANN401 - likewise
    """What makes texts of a parsed value unfit for files and terminals, as a phrase; or ""."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"U+{ord(error.object[error.start]):04X}, half of a surrogate pair"
    except RecursionError as error:
        return described(error)
    return ""
