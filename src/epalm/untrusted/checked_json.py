"""Dataclasses from JSON files that may be hand-written, edited or damaged."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from epalm.errors import MalformedFileError
from epalm.untrusted.json_values import JSON_ERRORS
from epalm.untrusted.quoted_values import quote

Made = TypeVar("Made")

LARGEST = 2**63
"""Integers from here on are refused: no count is as large, and floats cannot represent them."""

_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"}


def parse_json(text: str | bytes, place: str) -> object:
    """Parse a JSON text (bytes are UTF-8).

    Args:
        text: the whole text.
        place: name of the text for the message, e.g. the file.

    Raises:
        MalformedFileError: the text is not JSON or not UTF-8, has an integer of thousands of
            digits, or is nested deeper than the stack.
    """
    try:
        return json.loads(text)
    except JSON_ERRORS as error:
        raise MalformedFileError(f"{place} is no JSON ({error})") from error


def read_json(file: Path) -> object:
    """Parse a JSON file.

    Raises:
        OSError: the file cannot be read.
        MalformedFileError: the content is refused by `parse_json`.
    """
    return parse_json(file.read_bytes(), str(file))


def read_json_lines(file: Path) -> Iterator[tuple[str, object]]:
    """Iterate over place and value of each line of a JSONL file; empty lines are skipped.

    Raises:
        OSError: the file cannot be read.
        MalformedFileError: a line is refused by `parse_json`.
    """
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if line.strip():
            place = f"{file}: line {number}"
            yield place, parse_json(line, place)


def build(cls: type[Made], value: object, place: str) -> Made:
    """Build a dataclass from a JSON object, and check the type of every member.

    Unknown members are ignored, so that files of later versions open.

    Args:
        cls: dataclass with fields of str, bool, int, float, Literal, None, tuples, dicts and
            mappings with text keys, and other such dataclasses.
        value: parsed JSON.
        place: where it was read, for the message.

    Raises:
        MalformedFileError: a member is missing or has another type; the message names it.
    """
    members = _object(value, place)
    values = {}
    for name, hint, required in _members(cast(Any, cls)):
        if name in members:
            member = members[name]
            simple = hint is str and isinstance(member, str)  # most members of large files
            values[name] = member if simple else _converted(member, hint, f"{place}.{name}")
        elif required:
            raise MalformedFileError(f"{place}.{name} is missing")
    return cls(**values)


@cache
def _members(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type and whether it is required, for each field."""
    wanted = get_type_hints(cls)
    return tuple(
        (one.name, wanted[one.name], one.default is MISSING and one.default_factory is MISSING)
        for one in fields(cls)
    )


def _converted(value: object, wanted: Any, place: str) -> object:  # noqa: ANN401 - any type hint
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        if value is None and NoneType in inner:
            return None
        return _converted(value, next(one for one in inner if one is not NoneType), place)
    if origin is tuple:
        return _tuple(_list(value, place), inner, place)
    if origin in (dict, Mapping):
        named = _object(value, place).items()
        return {name: _converted(one, inner[1], f"{place}.{name}") for name, one in named}
    if origin is Literal:
        if value in inner:
            return value
        raise _wrong(value, place, " or ".join(map(repr, inner)))
    if isinstance(wanted, type) and is_dataclass(wanted):
        return build(wanted, value, place)
    return _scalar(wanted, value, place)


def _tuple(listed: list[object], kinds: tuple[Any, ...], place: str) -> tuple[object, ...]:
    if kinds[-1] is Ellipsis:
        if kinds[0] is str and all(isinstance(one, str) for one in listed):
            return tuple(listed)
        kinds = (kinds[0],) * len(listed)
    if len(listed) != len(kinds):
        raise _wrong(listed, place, f"a list of {len(kinds)}")
    pairs = zip(listed, kinds, strict=True)
    return tuple(_converted(one, kind, f"{place}[{at}]") for at, (one, kind) in enumerate(pairs))


def _scalar(wanted: type, value: object, place: str) -> object:
    if wanted in (str, bool) and isinstance(value, wanted):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and abs(cast(float, value)) < LARGEST and math.isfinite(cast(float, value)):
        if wanted is float:
            return float(cast(float, value))
        if wanted is int and isinstance(value, int):
            return value
    raise _wrong(value, place, _NAMES[wanted])


def _object(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _wrong(value, place, "an object")
    return value


def _list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        raise _wrong(value, place, "a list")
    return value


def _wrong(value: object, place: str, wanted: str) -> MalformedFileError:
    return MalformedFileError(f"{place} is {quote(value)}, expected {wanted}")
