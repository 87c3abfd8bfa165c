"""Files that either exist whole or not at all, whatever kills the writer."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import google_crc32c

READ_BYTES = 1 << 24
"""Bytes per read while a checksum is computed (16 MiB)."""


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Write `text` to `path` in one step: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def move_file(source: Path, target: Path) -> None:
    """Move a finished file into place; both must lie on one file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sync(source)
    source.replace(target)
    sync(target.parent)


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A folder that no other writer knows of; it is gone afterwards."""
    folder = parent / f".put-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def crc32c_of(path: Path) -> str:
    """CRC-32C of a file's bytes, as eight hexadecimal digits."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            checksum = google_crc32c.extend(checksum, block)
    return f"{checksum:08x}"
