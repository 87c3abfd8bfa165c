"""Look up tasks, encoders, metrics and datasets by name, or import the code that a user named.

Feature stores and run folders contain such names, and may come from strangers. A name from a file
is data: it can only be a key of one of our dicts and is never imported, since importing a module
runs it.
"""

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from epalm.errors import UsageError


def suggestion(name: str, known: Iterable[str]) -> str:
    """Format the end of a message about an unknown name: the nearest known name and all of them.

    Args:
        name: the unknown name.
        known: all valid names.
    """
    names = list(known)
    near = get_close_matches(name, names, n=1)
    nearest = f"did you mean {near[0]}? " if near else ""
    return f"{nearest}known are {', '.join(names)}"


class TypedName(str):
    """A name typed on the command line: the only kind that may be `package.module:Name`.

    Commands convert their options to it; `tests/foundation/test_plugins.py` lists other places. A
    name that is written to a file and read again is a plain `str`, so the permission is never
    stored.
    """

    __slots__ = ()


def load_plugin(name: str, known: Mapping[str, str], *, what: str, option: str) -> Any:  # noqa: ANN401
    """Import the object that a name stands for.

    Args:
        name: a key of `known`, or a `TypedName` of the form `package.module:Name`, for which the
            current folder is searched too.
        known: name -> "package.module:Name".
        what: kind of object, for the message, e.g. "encoder".
        option: command-line option that takes such a name, for the message, e.g. "--encoder".

    Raises:
        UsageError: the name is unknown (the message lists the known ones), or it comes from a file
            and names code (the message says how to allow it).
    """
    if name in known:
        return _import(known[name])
    wrong = f"{name!r} is no {what} (known are {', '.join(known)})"
    near = [] if ":" in name else get_close_matches(name.lower(), known, n=1)
    if near:
        raise UsageError(f"{wrong}: did you mean {near[0]}?")
    if not isinstance(name, TypedName):
        raise UsageError(
            f"{wrong}. It comes from a file, whose names are never imported: if it is a "
            f"package.module:Name that you know and trust, name it yourself with {option}"
        )
    sys.path.append("")
    try:
        return _import(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{wrong} and no package.module:Name that can be imported ({error})"
        ) from error
    finally:
        sys.path.remove("")


def _import(entry: str) -> Any:  # noqa: ANN401
    module, _, attribute = entry.partition(":")
    return getattr(import_module(module), attribute)
