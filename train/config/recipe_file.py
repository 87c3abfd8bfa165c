"""The files that recipes are written in, and how one extends another."""

from pathlib import Path
from typing import Any

from epalm.errors import RecipeError
from epalm.plugins import suggestion
from epalm.untrusted.checked_toml import parse_toml

RECIPE_FOLDER = Path(__file__).parent / "recipes"


def known_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(file.stem for file in RECIPE_FOLDER.glob("*.toml"))


def read_recipe_file(name: str, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a recipe and, where it does not give them itself, of the one that it extends.

    Args:
        name: an entry of `known_recipes`, or the path of a TOML file; what a file extends is
            relative to its folder.
        above: files that extend this one, resolved.

    Raises:
        RecipeError: there is no such recipe, it is no TOML, or it extends itself.
    """
    folder = above[-1].parent if above else Path()
    file = folder / name if name.endswith(".toml") else RECIPE_FOLDER / f"{name}.toml"
    if file.resolve() in above:
        raise RecipeError(f"recipe {file} extends itself")
    own = _load(file, name)
    base = own.pop("extends", "")
    if not isinstance(base, str):
        raise RecipeError(f"recipe {name}: extends is {base!r}, wanted a recipe's name")
    table = read_recipe_file(base, above=(*above, file.resolve())) if base else {}
    for key, value in own.items():
        below = table.get(key)
        inner = isinstance(below, dict) and isinstance(value, dict)
        table[key] = below | value if inner else value
    return table


def _load(file: Path, name: str) -> dict[str, Any]:
    try:
        return parse_toml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if name.endswith(".toml"):
            raise RecipeError(f"there is no recipe file {file}: correct the path") from None
        raise RecipeError(
            f"there is no recipe {name!r}; {suggestion(name, known_recipes())}, or the path of a "
            ".toml file"
        ) from None
    except ValueError as error:
        raise RecipeError(f"{file} is no TOML: {error}") from error
