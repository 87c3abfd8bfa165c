"""A store on an object store or any other file system that fsspec knows.

Each file is one PUT, which such systems make visible whole or not at all. What is read often, the
vectors of a shard, is copied once to a local folder, `$EPALM_COPIES` or `~/.cache/epalm`, and
taken from there as long as its checksum is the one of the commit record.
"""

import hashlib
import os
import posixpath
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from epalm.cache.storage.storage import Part, measure
from epalm.errors import MissingToolError, StoreError, UsageError

COPIES = "EPALM_COPIES"
"""Environment variable that names the folder of local copies."""

KINDS = frozenset(
    (
        *("abfs", "abfss", "adl", "az", "box", "dropbox", "file", "ftp", "gcs", "gdrive", "gs"),
        *("hdfs", "hf", "http", "https", "lakefs", "local", "memory", "oci", "oss", "s3", "s3a"),
        *("sftp", "smb", "ssh", "tos", "webdav", "webhdfs"),
    )
)
"""What a URL may begin with: file systems that hold bytes under names. A URL may come from somebody
else's run.json, and others of fsspec's read it as a program: "reference" fills in templates, a
chain of several (::) opens one file by what another says."""


class FsspecStorage:
    """A prefix of a remote file system, as a `Place`."""

    def __init__(self, url: str) -> None:
        """Connect.

        Raises:
            UsageError: no such kind of URL, or one that is not in `KINDS`.
            MissingToolError: the package for such URLs is not installed.
        """
        _check_kind(url)
        try:
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        except ImportError as error:
            raise MissingToolError(f"{url} cannot be reached: {error}") from error
        self._url = url
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._copies = copies_folder() / f"{posixpath.basename(url.rstrip('/'))}-{digest}"

    def __str__(self) -> str:
        return self._url

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        with self._reaching():
            data: bytes = self._files.cat_file(self._path(name))
        return data

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """One PUT."""
        with self._reaching():
            self._files.pipe_file(self._path(name), b"".join(bytes(part) for part in parts))

    def put_new(self, name: str, parts: Sequence[Part]) -> bool:
        """One PUT that fails if the name is taken, where the file system has such a thing."""
        if self.size(name) is not None:
            return False
        data = b"".join(bytes(part) for part in parts)
        try:
            with self._reaching():
                self._files.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def size(self, name: str) -> int | None:
        """Bytes of a file."""
        try:
            with self._reaching():
                found: dict[str, Any] = self._files.info(self._path(name))
        except FileNotFoundError:
            return None
        return found["size"] if found["type"] == "file" else None

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, sorted."""
        self._files.invalidate_cache()
        try:
            with self._reaching():
                found: list[str] = self._files.find(self._path(folder))
        except FileNotFoundError:
            return []
        return sorted(path[len(self._root) :].strip("/") for path in found)

    def delete(self, names: Iterable[str]) -> None:
        """Remove files that are there."""
        there = [self._path(name) for name in names if self.size(name) is not None]
        if there:
            with self._reaching():
                self._files.rm(there)

    def fetch(self, name: str, checksum: str) -> Path:
        """A local copy of the file, made in one step unless there is one."""
        copy = self._copy(name, checksum)
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            temporary = copy.with_name(f".{uuid.uuid4().hex}")
            with self._reaching():
                self._files.get_file(self._path(name), str(temporary))
            temporary.replace(copy)
        return copy

    def forget(self, name: str, checksum: str) -> bool:
        """Delete the local copy."""
        self._copy(name, checksum).unlink(missing_ok=True)
        return True

    def checksum(self, name: str) -> str:
        """CRC-32C of a file, read whole."""
        return measure([self.read(name)])[1]

    def clear(self) -> None:
        """Delete everything below the prefix, and the local copies."""
        with self._reaching():
            self._files.rm(self._root, recursive=True)
        shutil.rmtree(self._copies, ignore_errors=True)

    def sweep(self) -> None:
        """Nothing: an interrupted PUT leaves nothing that could be listed."""

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Each file system raises classes of its own library where it cannot be reached."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            raise StoreError(
                f"{self._url} cannot be reached ({error}): check address, credentials and network, "
                "then run the same command again; what is there is kept"
            ) from error

    def _path(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self._root, name))

    def _copy(self, name: str, checksum: str) -> Path:
        return self._copies / f"{checksum}-{name.replace('/', '_')}"


def _check_kind(url: str) -> None:
    kind = url.partition("://")[0]
    if kind not in KINDS or "::" in url:
        raise UsageError(
            f"{url} is no place for a store: wanted a path, or a plain URL of one of "
            f"{', '.join(sorted(KINDS))}"
        )


def copies_folder() -> Path:
    """Where local copies of remote stores lie."""
    named = os.environ.get(COPIES)
    return Path(named) if named else Path.home() / ".cache" / "epalm"
