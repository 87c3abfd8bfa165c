"""Names that stand for a function: keys of our dicts, or code that a person named.

Anyone may hand out a feature store or a run folder, and both hold names: of tasks, encoders, sets
of media. A name from a file is data: it can only be a key of one of our dicts and never reaches an
import, since importing a module runs it.
"""

import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from epalm.errors import UsageError


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known name, if any, and all of them.

    Args:
        name: what was given.
        known: the names that exist.
    """
    names = list(known)
    near = get_close_matches(name, names, n=1)
    nearest = f"did you mean {near[0]}? " if near else ""
    return f"{nearest}known are {', '.join(names)}"


class TypedName(str):
    """A name that a person typed on the command line: it alone may be `package.module:Name`.

    Commands make it of their options; `tests/test_plugins.py` lists who else may. What is written
    to a file and read again is a plain `str`, so that the permission is never stored.
    """

    __slots__ = ()


def load_plugin(name: str, known: Mapping[str, str], *, what: str, option: str) -> Any:  # noqa: ANN401
    """What the name stands for, imported.

    Args:
        name: a key of `known`, or a `TypedName` of the form `package.module:Name`, for which the
            current folder is searched too.
        known: name -> "package.module:Name".
        what: what the name should be, for the message, e.g. "encoder".
        option: by which a person names it, for the message, e.g. "--encoder".

    Raises:
        UsageError: it is neither; lists the known names, and the nearest if one is near. Or it is
            code that a file names: says how to allow it.
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
