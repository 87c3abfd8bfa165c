"""Names on the command line that stand for a function: entries of our dicts, or anyone's own."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from epalm.errors import UsageError


def find_entry(name: str, known: Mapping[str, str], *, what: str) -> Any:  # noqa: ANN401
    """What the name stands for, imported.

    Args:
        name: a key of `known`, or `package.module:Name`; the current folder is searched too.
        known: name -> "package.module:Name".
        what: what the name should be, for the message, e.g. "encoder".

    Raises:
        UsageError: it is neither; lists the known names, and the nearest if one is near.
    """
    module, _, attribute = known.get(name, name).partition(":")
    sys.path.append("")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        wrong = f"{name!r} is no {what} (known are {', '.join(known)})"
        near = [] if ":" in name else get_close_matches(name.lower(), known, n=1)
        if near:
            raise UsageError(f"{wrong}: did you mean {near[0]}?") from error
        raise UsageError(
            f"{wrong} and no package.module:Name that can be imported ({error})"
        ) from error
    finally:
        sys.path.remove("")
