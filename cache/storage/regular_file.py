"""Opening what is to be a file: a pipe in its place would be waited for, a device never end."""

import os
import stat
from pathlib import Path

from epalm.errors import StoreError


def open_regular(path: Path) -> int:
    """A descriptor that reads a regular file; the caller closes it.

    Raises:
        FileNotFoundError: there is nothing.
        StoreError: there is something else than a file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise StoreError(f"{path} is no regular file, which all files of a store are: remove it")
