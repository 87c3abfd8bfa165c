"""Local copies of the files of remote stores, with an optional limit of their size.

All processes of a machine share the folder. A copy is downloaded under a temporary name, compared
with its checksum and renamed, so every copy that has its name is whole. While one process downloads
a file, the others that need it wait. If all copies together exceed the limit, those that were used
least recently are deleted. A process that has one of them open continues to read it, and downloads
it again when it opens it the next time.
"""

import errno
import fcntl
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from epalm.cache.storage.file_extent import FileExtent, read_checked
from epalm.errors import StoreError, UsageError

COPIES = "EPALM_COPIES"
"""Environment variable that names the folder of local copies."""

COPIES_SIZE = "EPALM_COPIES_SIZE"
"""Environment variable with the limit of their total size, e.g. 200GB; no limit by default."""

TEMPORARY = ".part"
"""Suffix of a file that is being downloaded."""

ABANDONED_SECONDS = 24 * 3600
"""Age from which on a temporary file belongs to a process that was killed."""

LOCK = ".lock"

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)", re.IGNORECASE)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


class LocalCopies:
    """The copies of one store, in a folder of their own."""

    def __init__(self, folder: Path, limit: int | None) -> None:
        """Copy nothing yet.

        Args:
            folder: folder of the store's copies, in the folder of all copies.
            limit: bytes of all copies of all stores; None for no limit.

        Raises:
            UsageError: the limit is not positive.
        """
        if limit is not None and limit <= 0:
            raise UsageError("the local cache needs a size above 0, e.g. --local-cache-size 200GB")
        self._folder = folder
        self._limit = limit
        self._changed: dict[Path, Path] = {}

    def get(self, name: str, checksum: str, download: Callable[[Path], None]) -> Path:
        """Path of a copy, downloaded if there is none.

        A file with another checksum is returned as well, under another name, for the caller to
        judge.

        Args:
            name: name of the file in the store.
            checksum: expected CRC-32C.
            download: writes the file to a path.

        Raises:
            StoreError: the copy cannot be written.
        """
        path = self.path(name, checksum)
        existing = self._used(path) or self._used(self._changed.get(path))
        return existing or self._write(path, download, checksum)

    def derive(self, name: str, write: Callable[[Path], None]) -> Path:
        """Path of a file that was computed from others, written if there is none.

        Args:
            name: name of the file, which says what it was computed from.
            write: writes the file to a path; only one process of the machine does that.

        Raises:
            StoreError: the file cannot be written.
        """
        path = self._folder / name
        return self._used(path) or self._write(path, write, None)

    def _write(self, path: Path, write: Callable[[Path], None], checksum: str | None) -> Path:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_name(f".{path.name}{LOCK}")):
                return self._used(path) or self._write_locked(path, write, checksum)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StoreError(
                f"{path} could not be written ({error}): free some space, or give another folder "
                "with --local-cache and a limit with --local-cache-size"
            ) from error

    def path(self, name: str, checksum: str) -> Path:
        """Path of the copy of a file with a checksum."""
        return self._folder / f"{checksum}-{name.replace('/', '_')}"

    def discard(self, name: str, checksum: str) -> None:
        """Delete a copy."""
        path = self.path(name, checksum)
        path.unlink(missing_ok=True)
        if changed := self._changed.pop(path, None):
            changed.unlink(missing_ok=True)

    def _used(self, path: Path | None) -> Path | None:
        """The path if it is a copy, whose access time becomes the time of its last use."""
        if path is None:
            return None
        try:
            modified = path.stat().st_mtime_ns
            with suppress(PermissionError):  # that of another user
                os.utime(path, ns=(time.time_ns(), modified))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return path

    def _write_locked(
        self, path: Path, write: Callable[[Path], None], checksum: str | None
    ) -> Path:
        temporary = path.with_name(f".{uuid.uuid4().hex}{TEMPORARY}")
        try:
            write(temporary)
            path = self._named_by_content(path, temporary, checksum) if checksum else path
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._make_room(path)
        return path

    def _named_by_content(self, path: Path, written: Path, checksum: str) -> Path:
        """The path, or another one if the file does not have its checksum."""
        actual = read_checked(FileExtent(written, 0), np.empty(0, np.uint8))[1]
        if actual != checksum:
            name = path.name.removeprefix(f"{checksum}-")
            self._changed[path] = path = path.with_name(f"{actual}-{name}")
        return path

    def _make_room(self, kept: Path) -> None:
        """Delete the least recently used copies of all stores until the rest is below the limit."""
        if self._limit is None:
            return
        root = self._folder.parent
        with _locked(root / LOCK):
            copies = sorted(_copies(root))
            total = sum(size for _, size, _ in copies)
            for _, size, path in copies:
                if total <= self._limit:
                    break
                if path != kept:
                    path.unlink(missing_ok=True)
                    total -= size


def copies_folder() -> Path:
    """Folder of the local copies of remote stores."""
    folder = os.environ.get(COPIES)
    return Path(folder) if folder else Path.home() / ".cache" / "epalm"


def copies_limit() -> int | None:
    """Limit of the size of all local copies in bytes; None for no limit.

    Raises:
        UsageError: the environment variable is no size.
    """
    text = os.environ.get(COPIES_SIZE)
    return parse_size(text, COPIES_SIZE) if text else None


def use_local_cache(folder: Path | None, size: str) -> None:
    """Set where copies are kept and how large they get, for this process and those that it starts.

    Args:
        folder: value of --local-cache; None keeps the setting.
        size: value of --local-cache-size; "" keeps the setting.

    Raises:
        UsageError: the size cannot be read.
    """
    if size:
        parse_size(size, "--local-cache-size")
        os.environ[COPIES_SIZE] = size
    if folder:
        os.environ[COPIES] = str(folder.absolute())


def parse_size(text: str, name: str) -> int:
    """The bytes of a size such as 200GB, in powers of 1000.

    Raises:
        UsageError: it has another form; the message has the name of the option.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise UsageError(f"{name} {text!r}: expected a number and MB, GB or TB, e.g. 200GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _copies(root: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of the last use, size and path of every copy; abandoned downloads count as copies."""
    for path in root.glob("*/*"):
        with suppress(FileNotFoundError):
            status = path.stat()
            running = time.time() - status.st_mtime < ABANDONED_SECONDS
            if path.name.endswith(LOCK) or (path.name.endswith(TEMPORARY) and running):
                continue
            yield status.st_atime, status.st_size, path


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Wait for a lock that ends with its process; none where the file system has no locks."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)
