"""Open regular files only: reading a named pipe would block, reading a device might never end."""

import os
import stat
from pathlib import Path

from epalm.errors import StoreError


def open_regular(path: Path) -> int:
    """A file descriptor for reading a regular file; the caller closes it.

    Raises:
        FileNotFoundError: the file does not exist.
        StoreError: the path is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise StoreError(f"{path} is not a regular file, as all files of a store must be: remove it")
