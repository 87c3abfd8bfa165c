"""Atomic writes: after a crash a file is complete or absent."""

import os
import uuid
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path` atomically: temporary file, fsync, rename, fsync of the folder.

    Lone surrogates, which UTF-8 cannot encode, become JSON escapes.

    Raises:
        OSError: the file cannot be written, e.g. on a full disk; its old content is unchanged.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.new")
    try:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
