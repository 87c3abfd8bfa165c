"""Messages for exceptions of libraries and the system that a user can fix."""

import errno
import os
from collections.abc import Iterator
from traceback import walk_tb

from epalm.errors import EpalmError, UsageError
from epalm.untrusted.quoted_values import cut

BESIDE_TORCH = ("torchaudio", "torchvision")
"""Packages with extensions compiled for one version of torch, whatever their metadata allows:
torchaudio 2.11.1 with torch 2.11.0 has an undefined symbol."""

_MAX_REASON_CHARACTERS = 200

_ENVIRONMENT_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EDQUOT", "EFBIG", "EIO", "EISDIR", "ELOOP", "EMFILE", "ENAMETOOLONG"),
        *("ENFILE", "ENOSPC", "ENOTDIR", "EPERM", "EROFS", "ESTALE"),
    )
    if hasattr(errno, name)
)
"""Errors of a file system that a user can fix, e.g. a full disk."""


def explained(error: Exception) -> tuple[str, int] | None:
    """Message and exit code of an exception that a user can fix; None for a bug."""
    if unloadable := _unloadable(error):
        return unloadable, UsageError.exit_code
    if isinstance(error, EpalmError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT_ERRORS:
        return _refused(error), EpalmError.exit_code
    return None


def _refused(error: OSError) -> str:
    """Format the message of the operating system, with the file if it is known."""
    named = error.filename2 or error.filename
    where = f"{named}: " if isinstance(named, str | os.PathLike) else ""
    return (
        f"{where}{error.strerror}; free some space, or change permissions or names, so that the "
        "command can read and write its files, then run it again"
    )


def _unloadable(error: BaseException) -> str:
    """Explain how to fix a package of torch that cannot be imported; "" for other errors."""
    for cause in _causes(error):
        absent = isinstance(cause, ModuleNotFoundError) and not (cause.name or "").startswith(
            ("torch.", *BESIDE_TORCH)
        )
        if absent or not isinstance(cause, AttributeError | ImportError | OSError | RuntimeError):
            continue
        if package := _imported_in(cause):
            reason = cut(" ".join(str(cause).split()), _MAX_REASON_CHARACTERS)
            return (
                f"{package} {_version(package)} does not load with torch {_version('torch')} "
                f"({reason}): install versions that were tested together with "
                "`pip install -c constraints.txt .` in the source folder (README.md)"
            )
    return ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Iterate over an exception and its causes, the root cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _imported_in(error: BaseException) -> str:
    """The package of `BESIDE_TORCH` that was being imported; "" if there was none."""
    for frame, _ in walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package in BESIDE_TORCH and frame.f_code.co_name == "<module>":
            return package
    return ""


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "(of unknown version)"
