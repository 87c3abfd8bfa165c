"""The files that recipes are written in, and how one extends another."""

from pathlib import Path
from typing import Any

from epalm.errors import RecipeError
from epalm.plugins import suggestion
from epalm.portable_path import from_portable
from epalm.train.config.renamed_keys import with_current_keys
from epalm.untrusted.checked_toml import parse_toml

RECIPE_FOLDER = Path(__file__).parent / "recipes"


def known_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(file.stem for file in RECIPE_FOLDER.glob("*.toml"))


def read_recipe_file(name: str, *, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a recipe, merged over those of the recipe that it extends.

    Args:
        name: an entry of `known_recipes`, or the path of a TOML file; in `extends`, a path relative
            to the folder of the file that extends.
        above: resolved paths of the files that extend this one.

    Raises:
        RecipeError: there is no such recipe, it is not TOML, or it extends itself.
    """
    folder = above[-1].parent if above else Path()
    file = folder / name if name.endswith(".toml") else RECIPE_FOLDER / f"{name}.toml"
    if file.resolve() in above:
        raise RecipeError(f"recipe {file} extends itself")
    own_keys = _load(file, name)
    base = own_keys.pop("extends", "")
    if not isinstance(base, str):
        raise RecipeError(f"recipe {name}: extends is {base!r}, expected the name of a recipe")
    table = read_recipe_file(base, above=(*above, file.resolve())) if base else {}
    for key, value in own_keys.items():
        inherited = table.get(key)
        both_tables = isinstance(inherited, dict) and isinstance(value, dict)
        table[key] = inherited | value if both_tables else value
    return table


def _load(file: Path, name: str) -> dict[str, Any]:
    try:
        table = parse_toml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if name.endswith(".toml"):
            raise RecipeError(f"there is no recipe file {file}: correct the path") from None
        raise RecipeError(
            f"there is no recipe {name!r}; {suggestion(name, known_recipes())}, or the path of a "
            ".toml file"
        ) from None
    except ValueError as error:
        raise RecipeError(f"{file} is not TOML: {error}") from error
    current = with_current_keys(table, where=name)
    if isinstance(lm := current.get("lm"), str):  # "./" and "../" are relative to the file
        current["lm"] = from_portable(lm, file.parent)
    return current
