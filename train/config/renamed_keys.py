"""Keys of recipes that have been renamed: the earlier name is still read, with a note."""

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from epalm.errors import RecipeError

logger = logging.getLogger(__name__)

RENAMED_KEYS: Mapping[str, str] = {"normalise": "normalize"}
"""Earlier name of a key -> its present name."""


def current_key(key: str) -> str:
    """The present name of a recipe key; a renamed one is noted once per process."""
    if key not in RENAMED_KEYS:
        return key
    _note_renamed(key)
    return RENAMED_KEYS[key]


def with_current_keys(table: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The table of a recipe file with the present names of its keys, in the same order.

    Args:
        table: keys and values as they are in the file.
        where: name of the recipe, for the message.

    Raises:
        RecipeError: a key is there under both names.
    """
    both = [(old, new) for old, new in RENAMED_KEYS.items() if old in table and new in table]
    for old, new in both:
        raise RecipeError(f"recipe {where} has {old} and {new}, which are one key: remove {old}")
    return {current_key(key): value for key, value in table.items()}


@cache
def _note_renamed(key: str) -> None:
    logger.warning(
        "recipe key %r is deprecated, it is now called %r: the next release will not read it",
        key,
        RENAMED_KEYS[key],
    )
