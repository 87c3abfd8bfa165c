"""A store in a folder of a local or shared file system."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from epalm.atomic_write import sync
from epalm.cache.storage.checksum import READ_BYTES, Part, buffer_of, extend_crc32c
from epalm.cache.storage.regular_file import open_regular, read_regular
from epalm.cache.storage.storage import FileInfo
from epalm.errors import StoreError

T = TypeVar("T")

PUT_FOLDER = "put"
"""Folder of temporary files; it exists only while a writer is at work, or after one was killed."""

PUT_TRIES = 3
"""Attempts at a write: another writer that finishes the store deletes temporary files."""

READ_THREADS = 16
"""Groups of small files read in parallel, to hide the latency of network file systems."""

GROUP_FILES = 64
"""Files per group; on a local disk, starting a task costs as much as reading several files."""

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of file systems without hard links."""


class LocalStorage:
    """A folder of a local or shared file system."""

    makes_copies = False

    def __init__(self, root: Path, put_folder: str) -> None:
        """Store files below `root`.

        Args:
            root: the folder; it need not exist yet.
            put_folder: folder for temporary files, relative to `root`, on the same file system.
        """
        self.root = root
        self._put_folder = root / put_folder

    def __str__(self) -> str:
        return str(self.root)

    def read(self, name: str) -> bytes:
        """All bytes of a regular file."""
        path = self._path_text(name)
        try:
            return read_regular(path)
        except MemoryError as error:
            raise StoreError(
                f"{path} does not fit into memory: it was not written by epalm"
            ) from error

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Write a temporary file, fsync it, rename it into place, fsync the folder."""
        self._place(self._path_inside(name), parts, Path.replace)

    def put_new(self, name: str, parts: Sequence[Part]) -> bool:
        """Write a temporary file and hard-link it, which fails if the name is taken."""
        return self._place(self._path_inside(name), parts, _link_new)

    def _place(self, target: Path, parts: Sequence[Part], move: Callable[[Path, Path], T]) -> T:
        """Write a temporary file, move it to its name, fsync the folder; the result of `move`."""
        for _ in range(PUT_TRIES):
            try:
                temporary = self._write_temporary(parts)
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    result = move(temporary, target)
                finally:
                    temporary.unlink(missing_ok=True)
            except FileNotFoundError as error:
                lost = error  # another writer finished the store and deleted this file
                continue
            sync(target.parent)
            return result
        raise lost

    def size(self, name: str) -> int | None:
        """Size of a regular file in bytes."""
        file = self._path(name)
        return file.stat().st_size if file.is_file() else None

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, sorted, without temporary files."""
        return sorted(name for name, _ in self._entries(folder))

    def list_files(self, folder: str) -> dict[str, FileInfo]:
        """Name and size of every file below a folder, without temporary files."""
        files: dict[str, FileInfo] = {}
        for name, entry in self._entries(folder):
            with suppress(FileNotFoundError):  # deleted since it was listed
                files[name] = FileInfo(entry.stat().st_size)
        return files

    def read_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of each file in order, None for one that does not exist."""
        groups = [names[at : at + GROUP_FILES] for at in range(0, len(names), GROUP_FILES)]
        threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="epalm-read")
        try:
            for contents in threads.map(self._read_group, groups):
                yield from contents
        finally:
            threads.shutdown(cancel_futures=True)

    def _read_group(self, names: Sequence[str]) -> list[bytes | None]:
        contents: list[bytes | None] = []
        for name in names:
            try:
                contents.append(self.read(name))
            except FileNotFoundError:
                contents.append(None)
        return contents

    def _entries(self, folder: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
        """Name of every file below a folder in any order; links to folders are not followed."""
        self._path_inside(f"{folder}/file")
        put_folder = self._put_folder.relative_to(self.root).as_posix()
        folders = [folder.strip("/")]
        while folders:
            inside = folders.pop()
            try:
                with os.scandir(self.root / inside) as listing:
                    entries = list(listing)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name)
                elif inside != put_folder and entry.is_file():
                    yield name, entry

    def delete(self, names: Iterable[str]) -> None:
        """Delete the files that exist."""
        for path in [self._path_inside(name) for name in names]:
            path.unlink(missing_ok=True)

    def fetch(self, name: str, checksum: str) -> Path:
        """The file itself."""
        del checksum
        return self._path(name)

    def discard_copy(self, name: str, checksum: str) -> bool:
        """Do nothing: no copies are made of local files."""
        del name, checksum
        return False

    def checksum(self, name: str) -> str:
        """CRC-32C of a file, read block by block."""
        checksum = 0
        block = np.empty(READ_BYTES, dtype=np.uint8)
        with open(open_regular(self._path(name)), "rb", buffering=0) as file:  # noqa: PTH123
            while count := file.readinto(block.data):
                checksum = extend_crc32c(checksum, block[:count])
        return f"{checksum:08x}"

    def delete_all(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.root)

    def delete_partial_writes(self) -> None:
        """Delete the temporary files of killed writers."""
        if self._put_folder.is_dir():
            self._refuse_links(self._put_folder)
            for leftover in self._put_folder.iterdir():
                leftover.unlink(missing_ok=True)
            with suppress(OSError):  # not empty if a writer has just started
                self._put_folder.rmdir()

    def _path(self, name: str) -> Path:
        """Names may begin with `..`; the root need not exist."""
        return Path(self._path_text(name))

    def _path_text(self, name: str) -> str:
        return os.path.normpath(f"{self.root}/{name}")

    def _path_inside(self, name: str) -> Path:
        """Path of a file to list, write or delete, which no symbolic link may lead to.

        Raises:
            StoreError: a folder of the store is a symbolic link. In a store from somebody else it
                could lead to the user's own files.
        """
        path = self._path(name)
        self._refuse_links(path.parent)
        return path

    def _refuse_links(self, folder: Path) -> None:
        root = Path(os.path.normpath(self.root))
        between = [folder, *folder.parents]
        for inner in between[: between.index(root)] if root in between else []:
            if inner.is_symlink():
                raise StoreError(
                    f"{inner} is a symbolic link inside a store: replace it with the folder "
                    "itself, or link the whole store"
                )

    def _write_temporary(self, parts: Sequence[Part]) -> Path:
        self._refuse_links(self._put_folder)
        self._put_folder.mkdir(parents=True, exist_ok=True)
        temporary = self._put_folder / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                for part in parts:
                    file.write(buffer_of(part))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


def _link_new(temporary: Path, target: Path) -> bool:
    """Give the file its name unless that is taken; whether it was free."""
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
    return True
