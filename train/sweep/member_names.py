"""Names of the members of a sweep: each is a folder in `members`, and nothing else."""

import re
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import PurePath

from epalm.errors import RecipeError
from epalm.untrusted.quoted_values import shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")

_MOST_CHARACTERS = 120
"""Largest length of a name."""


def check_member_name(name: object, *, where: str) -> str:
    """The same name, if it can only be a folder in `members`.

    Raises:
        RecipeError: it is no text, too long, or has other characters than letters of ASCII, digits
            and `._+=-`.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= _MOST_CHARACTERS:
        return name
    raise RecipeError(
        f"{where}: a member's name is {shown(name)}, expected at most {_MOST_CHARACTERS} letters, "
        "digits and . _ + = -, the first a letter or digit"
    )


def made_name(settings: Mapping[str, object]) -> str:
    """A name from all settings, e.g. `variant-full_lr-0.001`; a long one ends with a hash."""
    parts = (f"{key.rpartition('.')[2]}-{_short(value)}" for key, value in settings.items())
    name = re.sub(r"[^A-Za-z0-9._+=-]+", "-", "_".join(parts)).lstrip("._+=-") or "base"
    if len(name) <= _MOST_CHARACTERS:
        return name
    digest = blake2b(repr(sorted(settings.items())).encode(), digest_size=4).hexdigest()
    return f"{name[: _MOST_CHARACTERS - 9]}_{digest}"


def _short(value: object) -> str:
    """A value as text; the last part of a path, without the ending of a store or recipe."""
    if isinstance(value, list):
        return "+".join(map(_short, value))
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    last = PurePath(value).name or value
    return re.sub(r"\.(zarr|h5|shards|toml)$", "", last)
