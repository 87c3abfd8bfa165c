"""Builds dataclasses from TOML tables; refuses values of the wrong type and unknown keys."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeAlias, get_args, get_type_hints

from epalm.errors import RecipeError
from epalm.untrusted.checked_toml import parse_toml
from epalm.untrusted.quoted_values import shown

Change: TypeAlias = tuple[str, object]
"""A key, such as "epochs" or "schedule.min_lr", and its new value."""


def parse_changes(texts: Iterable[str]) -> list[Change]:
    """Parse what was typed after --set.

    Args:
        texts: "key=value" each; the value is TOML, or plain text if it is no TOML.

    Raises:
        RecipeError: a text has another form.
    """
    return [_parse_change(text) for text in texts]


def apply_change(table: dict[str, Any], change: Change) -> None:
    """Set the value of one key.

    Args:
        table: the recipe's keys, changed in place.
        change: the key and its new value.

    Raises:
        RecipeError: a part of the key is no table.
    """
    key, value = change
    *parents, last = key.split(".")
    for parent in parents:
        inner = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"{key} cannot be set: {parent} is {shown(inner)}, not a table")
        table = inner
    table[last] = value


def _parse_change(text: str) -> Change:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {shown(text)} is no change of a recipe, expected key=value")
    return key.strip(), _parse_value(value.strip())


def _parse_value(text: str) -> object:
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def build(kind: type[Any], table: Mapping[str, Any], *, where: str) -> Any:  # noqa: ANN401
    """An instance of the dataclass `kind` from a table of its fields.

    Raises:
        RecipeError: an unknown or missing key, or a value of the wrong type.
    """
    known = {field.name: field for field in fields(kind)}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise RecipeError(f"recipe {where} has an unknown key {shown(key)}{hint}")
    missing = [name for name, field in known.items() if name not in table and _required(field)]
    if missing:
        raise RecipeError(f"recipe {where} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _value(key, hints[key], table[key], where=where) for key in table})


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING


def _value(key: str, expected: Any, value: Any, *, where: str) -> Any:  # noqa: ANN401
    if is_dataclass(expected) and isinstance(value, dict):
        return build(expected, value, where=f"{where} [{key}]")  # type: ignore[arg-type]
    if choices := get_args(expected):
        if value in choices:
            return value
        raise RecipeError(
            f"recipe {where}: {key} is {shown(value)}, expected one of {', '.join(choices)}"
        )
    if expected is float and type(value) is int:
        return _as_float(key, value, where=where)
    if type(value) is not expected:
        raise RecipeError(f"recipe {where}: {key} is {shown(value)}, expected {expected.__name__}")
    if expected is str and not _is_valid_unicode(value):
        raise RecipeError(
            f"recipe {where}: {key} is {shown(value)}, which is no valid Unicode text"
        )
    return value


def _as_float(key: str, value: int, *, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise RecipeError(f"recipe {where}: {key} has too many digits for a number") from None


def _is_valid_unicode(text: str) -> bool:
    """Whether a text can be written to a UTF-8 file; half of a surrogate pair cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
