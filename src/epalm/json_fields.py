"""Dataclasses from JSON that anybody may have written: each field has its declared type.

A store's spec.json and a run's run.json come from strangers, too. Python would take a text for a
number until some code far away fails on it.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")

SHOWN_CHARACTERS = 60
"""A value that a message quotes is cut after so many characters."""


def from_json(kind: type[Kind], value: object) -> Kind:
    """An instance of a dataclass whose fields were written as JSON.

    Args:
        kind: a dataclass with fields of int, float, str, bool, None, Literal, dataclasses, and of
            tuples, mappings and unions of these.
        value: what was read; lists stand for tuples.

    Raises:
        ValueError: a field is absent, unknown or of another type; or what `kind` itself raises.
    """
    return _dataclass(kind, value, "")


def _dataclass(kind: type[Kind], value: object, place: str) -> Kind:
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    hints = _hints(kind)  # type: ignore[arg-type]
    own = fields(kind)  # type: ignore[arg-type]
    known = {field.name for field in own}
    needed = {one.name for one in own if one.default is MISSING and one.default_factory is MISSING}
    if unknown := sorted(value.keys() - known):
        raise ValueError(f"{place}{_short(unknown[0])} is no known field")
    if absent := sorted(needed - value.keys()):
        raise ValueError(f"{place}{absent[0]} is absent")
    return kind(**{name: _value(hints[name], one, place + name) for name, one in value.items()})


@lru_cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _value(wanted: Any, value: Any, place: str) -> Any:  # noqa: ANN401
    origin = get_origin(wanted)
    if origin in (Union, UnionType):
        return _either(get_args(wanted), value, place)
    if origin is Literal:
        return _literal(get_args(wanted), value, place)
    if origin is tuple:
        return _tuple(get_args(wanted), value, place)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(wanted)[1], value, place)
    if is_dataclass(wanted):
        return _dataclass(wanted, value, f"{place}.")  # type: ignore[arg-type]
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise _wrong(place, value, f"{wanted.__name__}")
    return value


def _either(kinds: tuple[Any, ...], value: object, place: str) -> object:
    for kind in kinds:
        if kind is type(None):
            if value is None:
                return None
            continue
        try:
            return _value(kind, value, place)
        except ValueError as error:
            wrong = error
    raise wrong


def _literal(choices: tuple[Any, ...], value: object, place: str) -> object:
    if not isinstance(value, str | int) or value not in choices:
        raise _wrong(place, value, f"one of {', '.join(map(str, choices))}")
    return value


def _mapping(inner: Any, value: object, place: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise _wrong(place, value, "an object")
    return {name: _value(inner, one, f"{place}.{name}") for name, one in value.items()}


def _tuple(inner: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(place, value, "a list")
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(value) != len(inner):
        raise _wrong(place, value, f"a list of {len(inner)}")
    pairs = zip(inner, value, strict=True)
    return tuple(_value(kind, one, f"{place}[{at}]") for at, (kind, one) in enumerate(pairs))


def _wrong(place: str, value: object, wanted: str) -> ValueError:
    return ValueError(f"{place.rstrip('.') or 'all of it'} is {_short(value)}, wanted {wanted}")


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
