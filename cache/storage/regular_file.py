"""Open regular files only: reading a named pipe would block, reading a device might never end."""

import os
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epalm.errors import StoreError

MAPPED_BYTES = 1 << 26
"""Size from which on a file is mapped (64 MiB). Reading a smaller one takes no time, and a mapped
file that becomes shorter ends the process."""


SMALL_BYTES = 1 << 16
"""Size up to which a file is read by system calls alone, in a third of the time."""


def open_regular(path: str | Path) -> int:
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


def read_regular(path: str | Path) -> bytes:
    """All bytes of a regular file.

    Raises:
        FileNotFoundError: the file does not exist.
        MemoryError: the file does not fit into memory.
        StoreError: the path is not a regular file.
    """
    descriptor = open_regular(path)
    try:
        data = os.read(descriptor, SMALL_BYTES)
        while len(data) < SMALL_BYTES and (more := os.read(descriptor, SMALL_BYTES - len(data))):
            data += more
        if len(data) < SMALL_BYTES:
            return data
        with open(descriptor, "rb", closefd=False) as file:
            return data + file.read()
    finally:
        os.close(descriptor)


def read_or_map(path: Path) -> NDArray[np.uint8]:
    """(bytes,) content of a regular file, read-only; a large file is mapped into memory.

    Raises:
        FileNotFoundError: the file does not exist.
        StoreError: the path is not a regular file.
    """
    with open(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size < MAPPED_BYTES:
            return np.frombuffer(file.read(), np.uint8)
        return np.memmap(file, np.uint8, "r")
