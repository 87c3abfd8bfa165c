"""Values of a command's options from keyword arguments, checked as on the command line."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from epalm.errors import UsageError
from epalm.plugins import suggestion

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")


def options_from(
    kind: type[Options], app: typer.Typer, values: Mapping[str, object], *, function: str
) -> Options:
    """The options of a command from keyword arguments.

    Args:
        kind: dataclass of the options.
        app: the command that is generated from it.
        values: names as on the command line, with underscores in place of dashes, e.g. `beams`, or
            as in the dataclass -> values.
        function: name of the function that was called, for messages.

    Raises:
        UsageError: an unknown name, or a value that the command line would refuse.
    """
    command = typer.main.get_command(app)
    context = typer.Context(command)
    parameters = {parameter.name: parameter for parameter in command.params}
    known = {field.name: field.name for field in fields(kind)}
    names = {written: name for name in known for written in _written(parameters[name], name)}
    checked: dict[str, Any] = {}
    for given, value in values.items():
        if given not in names:
            raise UsageError(
                f"{function}() has no argument {given!r}: {suggestion(given, sorted(names))}"
            )
        name = names[given]
        checked[name] = _checked(parameters[name], context, value, given)
    return kind(**checked)


def _written(parameter: Any, name: str) -> list[str]:  # noqa: ANN401
    """The names of an option: that of its field, and that of the command line."""
    long = (option for option in parameter.opts if option.startswith("--"))
    return [name, *(option[2:].replace("-", "_") for option in long)]


def _checked(parameter: Any, context: typer.Context, value: Any, given: str) -> Any:  # noqa: ANN401
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):  # --set takes key=value several times
        value = [f"{key}={_as_text(one)}" for key, one in value.items()]
    if parameter.multiple and isinstance(value, str | Path):  # one store, of --features
        value = [value]
    try:
        return parameter.type_cast_value(context, value)
    except typer.BadParameter as error:
        raise UsageError(f"{given}={value!r}: {error.message}") from error


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
