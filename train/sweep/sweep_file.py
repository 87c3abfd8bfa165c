"""SWEEP.toml: what a sweep trains. A file is data: it names no code, and no folder outside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from epalm.errors import MissingFileError, RecipeError
from epalm.portable_path import from_portable
from epalm.train.sweep.halving import Halving, read_halving
from epalm.train.sweep.member_names import check_member_name, made_name
from epalm.untrusted.checked_toml import parse_toml
from epalm.untrusted.quoted_values import shown

OPTIONS: Mapping[str, type] = {
    **dict.fromkeys(("features", "task", "data_root", "train_split", "val_split"), str),
    **dict.fromkeys(("lm", "precision", "variant", "source_layers", "inject", "recipe"), str),
    **dict.fromkeys(("reader", "text_states"), str),
    **dict.fromkeys(("train_examples", "limit", "seed"), int),
    "train_fraction": float,
    "blind": bool,
    "common": bool,
    "concatenate": bool,
}
"""Options of `epalm-train` that a sweep file may set -> type; all other keys are recipe keys."""

LOCATIONS = ("features", "data_root", "lm", "recipe", "text_states")
"""Options that name a file or folder; "./" and "../" are relative to the folder of the file."""

OWN_OPTIONS = (
    *("out", "name", "device", "fresh", "dry_run", "track", "shard_weights", "quiet"),
    *("local_cache", "local_cache_size"),
)
"""Options of `epalm-train` that belong to the command line of a sweep, or that it does not have.
The local cache of a sweep is set by environment variables."""

MAX_MEMBERS = 1000
"""Largest number of members of a sweep."""

Settings = Mapping[str, object]
"""Option, or recipe key with dots -> value."""


@dataclass(frozen=True)
class Member:
    """One training of a sweep.

    Attributes:
        name: name of its run folder.
        settings: settings in which it differs from the base.
    """

    name: str
    settings: Settings

    @property
    def without_seed(self) -> Settings:
        """The settings that members of one group share."""
        return {key: value for key, value in self.settings.items() if key != "seed"}


@dataclass(frozen=True)
class SweepFile:
    """Content of a sweep file.

    Attributes:
        base: settings of all members.
        members: what is trained, in this order.
        halving: when members are given up; None to train all to their end.
    """

    base: Settings
    members: tuple[Member, ...]
    halving: Halving | None


def read_sweep(file: Path) -> SweepFile:
    """Read and check a sweep file.

    Raises:
        MissingFileError: there is no such file.
        RecipeError: it is not TOML, or has a value of the wrong type, no member, or two of one
            name.
    """
    try:
        table = parse_toml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFileError(f"there is no sweep file {file}: correct the path") from None
    except ValueError as error:
        raise RecipeError(f"{file} is not TOML: {error}") from error
    grid, listed = table.pop("grid", {}), table.pop("member", [])
    halving = read_halving(table.pop("halving", None), where=str(file))
    if not isinstance(grid, dict) or not isinstance(listed, list):
        raise RecipeError(f"{file}: write [grid] for lists of values, [[member]] for each member")
    base = _settings(table, file)
    members = (*_grid_members(grid, file), *(_listed_member(one, file) for one in listed))
    _check_members(members, file)
    return SweepFile(base, members, halving)


def _check_members(members: tuple[Member, ...], file: Path) -> None:
    if not members:
        raise RecipeError(f"{file} has no member: add a [grid] with lists of values, or [[member]]")
    if len(members) > MAX_MEMBERS:
        raise RecipeError(f"{file} has {len(members)} members, expected at most {MAX_MEMBERS}")
    names = [member.name.casefold() for member in members]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RecipeError(f"{file}: two members are called {twice[0]!r}: give each a name")


def _grid_members(grid: dict[str, Any], file: Path) -> Iterator[Member]:
    """The product of the lists of [grid]; the last key varies fastest."""
    values = dict(_flat(grid, file))
    for key, choices in values.items():
        if not isinstance(choices, list) or not choices:
            raise RecipeError(
                f"{file}: {key} in [grid] is {shown(choices)}, expected a list of values"
            )
    count = prod(map(len, values.values())) if values else 0
    if count > MAX_MEMBERS:
        raise RecipeError(f"{file}: [grid] has {count} members, expected at most {MAX_MEMBERS}")
    for chosen in product(*values.values()) if values else ():
        settings = _settings(dict(zip(values, chosen, strict=True)), file)
        yield Member(made_name(settings), settings)


def _listed_member(table: object, file: Path) -> Member:
    if not isinstance(table, dict):
        raise RecipeError(f"{file}: a member is {shown(table)}, expected a table [[member]]")
    name = table.pop("name", None)
    settings = _settings(table, file)
    if name is None:
        return Member(made_name(settings), settings)
    return Member(check_member_name(name, where=str(file)), settings)


def _settings(table: dict[str, Any], file: Path) -> Settings:
    """The settings of a table, with absolute locations."""
    return {key: _checked(key, value, file) for key, value in _flat(table, file)}


def _flat(table: Mapping[str, Any], file: Path, above: str = "") -> Iterator[tuple[str, Any]]:
    """Keys with dots, and their values; tables within tables are recipe keys with a dot."""
    for key, value in table.items():
        if not above and key in OWN_OPTIONS:
            raise RecipeError(
                f"{file}: {key} cannot be set in a sweep file, see `epalm-train sweep --help`"
            )
        if isinstance(value, dict):
            yield from _flat(value, file, f"{above}{key}.")
        else:
            yield above + key, value


def _checked(key: str, value: object, file: Path) -> object:
    if key == "features" and isinstance(value, list) and value:
        return [_checked(key, store, file) for store in value]  # joined by key
    expected = OPTIONS.get(key)
    if expected is None:
        if isinstance(value, str | bool | int | float):
            return value
        raise RecipeError(f"{file}: {key} is {shown(value)}, expected a text, number or boolean")
    if expected is float and type(value) is int:
        return float(value)
    if type(value) is not expected:
        raise RecipeError(f"{file}: {key} is {shown(value)}, expected {expected.__name__}")
    if key == "task" and ":" in str(value):
        raise RecipeError(
            f"{file}: task is {shown(value)}, expected a task of this package: code is named on "
            "the command line of epalm-train only"
        )
    return from_portable(str(value), file.parent) if key in LOCATIONS else value
