"""Where the files of a store lie: put whole or not at all, read by name.

A place is a folder of a file system, or a prefix of an object store
(`epalm.cache.storage.fsspec_storage`). Names are relative to it, with forward slashes. Local files
appear by rename after an fsync, remote ones by a single PUT, so that whatever kills a writer, each
name shows all of its bytes or nothing.
"""

import errno
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from epalm.atomic_write import sync
from epalm.cache.storage.regular_file import open_regular
from epalm.errors import StoreError

Part: TypeAlias = "bytes | NDArray[np.uint8]"
"""Some bytes of a file, in their order; arrays are one-dimensional."""

READ_BYTES = 1 << 24
"""Bytes per read while a checksum is computed (16 MiB)."""

PUT_FOLDER = "put"
"""Folder of half-written local files; empty unless a writer is at work or was killed."""

PUT_TRIES = 3
"""A half-written file can be swept away by a writer that finds the store complete."""

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What file systems without hard links answer."""


class Storage(Protocol):
    """The files of one store.

    Every method raises OSError when the file system refuses.
    """

    def read(self, name: str) -> bytes:
        """All bytes of a file; FileNotFoundError if there is none."""

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Write or replace a file in one step."""

    def put_new(self, name: str, parts: Sequence[Part]) -> bool:
        """Write a file in one step unless it is there; whether it was written."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, None if there is none."""

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, sorted; "" for all of the place."""

    def delete(self, names: Iterable[str]) -> None:
        """Remove files that are there."""

    def fetch(self, name: str, checksum: str) -> Path:
        """The file as a local one, whose bytes are to have this CRC-32C: itself, or a copy."""

    def forget(self, name: str, checksum: str) -> bool:
        """Delete a local copy that turned out damaged; False if the file is no copy."""

    def checksum(self, name: str) -> str:
        """CRC-32C of a file, as eight hexadecimal digits; FileNotFoundError if there is none."""

    def clear(self) -> None:
        """Delete every file of the place."""

    def sweep(self) -> None:
        """Delete what killed writers left half-written."""


class LocalStorage:
    """A folder of a local or shared file system."""

    def __init__(self, root: Path, put_folder: str) -> None:
        """Work below `root`.

        Args:
            root: the folder; need not exist yet.
            put_folder: folder below it for half-written files, on the same file system.
        """
        self.root = root
        self._put_folder = root / put_folder

    def __str__(self) -> str:
        return str(self.root)

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        with open(open_regular(self._path(name)), "rb") as file:  # noqa: PTH123 - a descriptor
            try:
                return file.read()
            except MemoryError as error:
                raise StoreError(
                    f"{self._path(name)} is larger than the memory: it was not written by epalm"
                ) from error

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Write a temporary file, fsync it, rename it into place, fsync the folder."""
        target = self._own(name)
        for _ in range(PUT_TRIES):
            try:
                temporary = self._write_temporary(parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._rename(temporary, target)
            except FileNotFoundError as error:
                lost = error  # another writer finished the store and swept this file away
                continue
            sync(target.parent)
            return
        raise lost

    def put_new(self, name: str, parts: Sequence[Part]) -> bool:
        """As `put`, by a hard link, which fails if the name is taken."""
        target = self._own(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._write_temporary(parts)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if target.exists():
                return False
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync(target.parent)
        return True

    def size(self, name: str) -> int | None:
        """Bytes of a regular file."""
        file = self._path(name)
        return file.stat().st_size if file.is_file() else None

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, sorted, save half-written ones."""
        self._own(f"{folder}/file")
        found = (file for file in (self.root / folder).rglob("*") if file.is_file())
        return sorted(
            file.relative_to(self.root).as_posix()
            for file in found
            if file.parent != self._put_folder
        )

    def delete(self, names: Iterable[str]) -> None:
        """Remove files that are there."""
        for path in [self._own(name) for name in names]:
            path.unlink(missing_ok=True)

    def fetch(self, name: str, checksum: str) -> Path:
        """The file itself."""
        del checksum
        return self._path(name)

    def forget(self, name: str, checksum: str) -> bool:
        """Nothing: local files are no copies."""
        del name, checksum
        return False

    def checksum(self, name: str) -> str:
        """CRC-32C of a file, read in pieces."""
        checksum = 0
        block = np.empty(READ_BYTES, dtype=np.uint8)
        with open(open_regular(self._path(name)), "rb", buffering=0) as file:  # noqa: PTH123
            while count := file.readinto(block.data):
                checksum = extend_crc32c(checksum, block[:count])
        return f"{checksum:08x}"

    def clear(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.root)

    def sweep(self) -> None:
        """Delete what killed writers left half-written."""
        if self._put_folder.is_dir():
            self._own_folder(self._put_folder)
            for left in self._put_folder.iterdir():
                left.unlink(missing_ok=True)
            with suppress(OSError):  # a writer may have begun another one
                self._put_folder.rmdir()

    def _path(self, name: str) -> Path:
        """A name may lead out of the root, which need not exist for that."""
        return Path(os.path.normpath(self.root / name))

    def _own(self, name: str) -> Path:
        """Likewise of a file that is listed, written or deleted: none behind a symbolic link.

        Raises:
            StoreError: a folder of the store leads elsewhere; a stranger's would lead to our files.
        """
        path = self._path(name)
        self._own_folder(path.parent)
        return path

    def _own_folder(self, folder: Path) -> None:
        root = Path(os.path.normpath(self.root))
        between = [folder, *folder.parents]
        for one in between[: between.index(root)] if root in between else []:
            if one.is_symlink():
                raise StoreError(
                    f"{one} is a symbolic link, and a store has folders of its own: put the folder "
                    "itself there, or link the whole store"
                )

    def _rename(self, temporary: Path, target: Path) -> None:
        try:
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _write_temporary(self, parts: Sequence[Part]) -> Path:
        self._own_folder(self._put_folder)
        self._put_folder.mkdir(parents=True, exist_ok=True)
        temporary = self._put_folder / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                for part in parts:
                    file.write(part if isinstance(part, bytes) else part.data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


def open_place(root: str, private: str) -> Storage:
    """The place at a path or URL."""
    if "://" in root:
        from epalm.cache.storage.fsspec_storage import FsspecStorage

        return FsspecStorage(root)
    return LocalStorage(Path(root), posixpath.join(private, PUT_FOLDER))


def absolute(location: str) -> str:
    """The location from any folder: a path made absolute, a URL as it is."""
    return location if "://" in location else str(Path(location).absolute())


def measure(parts: Sequence[Part]) -> tuple[int, str]:
    """Number of bytes and their CRC-32C, as eight hexadecimal digits."""
    size, checksum = 0, 0
    for part in parts:
        size += len(part)
        checksum = extend_crc32c(checksum, part)
    return size, f"{checksum:08x}"


def extend_crc32c(checksum: int, part: Part) -> int:
    """The CRC-32C of some bytes followed by `part`."""
    if isinstance(part, np.ndarray):
        part = part.view()
        part.flags.writeable = False  # google-crc32c takes nothing writeable
    extended: int = google_crc32c.extend(checksum, part)
    return extended
