"""Atomic writes: after a crash a file is complete or absent."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give errors of writing an open file the path; the system does not, e.g. on a full disk.

    Raises:
        OSError: the same error, with a path.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path`, see `write_binary`.

    Lone surrogates, which UTF-8 cannot encode, become JSON escapes.
    """
    write_binary(path, text.encode("utf-8", "backslashreplace"))


def write_binary(path: Path, content: bytes) -> None:
    """Write bytes to `path` atomically: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: the file cannot be written, e.g. on a full disk; its old content is unchanged.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.new")
    try:
        temporary.write_bytes(content)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
