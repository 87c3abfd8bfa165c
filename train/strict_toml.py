"""Dataclasses from TOML tables, and back; what does not fit is refused."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from epalm.errors import RecipeError


def apply_change(table: dict[str, Any], change: str) -> None:
    """Set the value that "key=value" names; the value is TOML, or plain text.

    Raises:
        RecipeError: it is no such change.
    """
    key, equals, text = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change!r} is no change, wanted key=value")
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = _parse_value(text.strip())


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def build(kind: type[Any], table: Mapping[str, Any], *, where: str) -> Any:  # noqa: ANN401
    """The dataclass `kind` from a table of its fields.

    Raises:
        RecipeError: an unknown or missing key, or a value of the wrong type.
    """
    known = {field.name: field for field in fields(kind)}
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise RecipeError(f"recipe {where} has an unknown key {key!r}{hint}")
    missing = [name for name, field in known.items() if name not in table and _required(field)]
    if missing:
        raise RecipeError(f"recipe {where} lacks {', '.join(missing)}")
    hints = get_type_hints(kind)
    return kind(**{key: _value(key, hints[key], table[key], where=where) for key in table})


def _required(field: "Field[Any]") -> bool:
    return field.default is MISSING


def _value(key: str, wanted: Any, found: Any, *, where: str) -> Any:  # noqa: ANN401
    if is_dataclass(wanted) and isinstance(found, dict):
        return build(wanted, found, where=f"{where} [{key}]")  # type: ignore[arg-type]
    if choices := get_args(wanted):
        if found in choices:
            return found
        raise RecipeError(f"recipe {where}: {key} is {found!r}, wanted one of {', '.join(choices)}")
    if wanted is float and type(found) is int:
        return float(found)
    if type(found) is not wanted:
        raise RecipeError(f"recipe {where}: {key} is {found!r}, wanted {wanted.__name__}")
    return found


def toml_line(name: str, value: object) -> str:
    """The line of a TOML file that gives the value."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name} = "{escaped}"'
    return f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
