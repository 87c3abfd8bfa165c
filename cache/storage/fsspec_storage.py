"""A store on an object store or any other file system that fsspec supports.

Each file is written by one PUT, or by one upload in parts if it is large; such systems make both
visible whole or not at all. Shards, which are read often, are copied once to a local folder,
`$EPALM_COPIES` or `~/.cache/epalm`. The copy is used as long as its checksum is the one in the
commit record, and `$EPALM_COPIES_SIZE` permits; see `epalm.cache.storage.local_copies`. Requests
that fail for a moment are repeated (`epalm.cache.storage.retries`).
"""

import base64
import binascii
import hashlib
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import fsspec

from epalm.cache.storage.checksum import Part, buffer_of, size_and_checksum
from epalm.cache.storage.local_copies import (
    TEMPORARY,
    LocalCopies,
    copies_folder,
    copies_limit,
)
from epalm.cache.storage.retries import retried
from epalm.cache.storage.storage import FileInfo
from epalm.errors import MissingToolError, StoreError, UsageError

READ_FILES = 1024
"""Files per call of the file system, which has up to 128 requests in flight."""

UPLOAD_PARTS = 2
"""Parts of a large file that are uploaded to S3 at a time, each of which is in memory (50 MB)."""

_MD5 = re.compile(r"[0-9a-f]{32}")

URL_SCHEMES = frozenset(
    (
        *("abfs", "abfss", "adl", "az", "box", "dropbox", "file", "ftp", "gcs", "gdrive", "gs"),
        *("hdfs", "hf", "http", "https", "lakefs", "local", "memory", "oci", "oss", "s3", "s3a"),
        *("sftp", "smb", "ssh", "tos", "webdav", "webhdfs"),
    )
)
"""Allowed URL schemes: file systems that only map names to bytes. A URL may come from somebody
else's run.json, and fsspec interprets other schemes as programs: "reference" expands templates, and
a chain of schemes (::) opens the file that another file names."""


class FsspecStorage:
    """A prefix of a remote file system, as a `Storage`."""

    makes_copies = True

    def __init__(self, url: str) -> None:
        """Connect.

        Raises:
            UsageError: the URL has an unknown scheme, or one that is not in `URL_SCHEMES`.
            MissingToolError: the package for such URLs is not installed.
        """
        _check_scheme(url)
        try:
            self._files, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        except ImportError as error:
            raise MissingToolError(f"{url} cannot be reached: {error}") from error
        self._url = url
        digest = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._folder = copies_folder() / f"{posixpath.basename(url.rstrip('/'))}-{digest}"
        self._copies = LocalCopies(self._folder, copies_limit())

    def __str__(self) -> str:
        return self._url

    def read(self, name: str) -> bytes:
        """All bytes of a file."""
        with self._connection_errors():
            data: bytes = retried(lambda: self._files.cat_file(self._path(name)))
        return data

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Write a file; see `_check_writable` for the error.

        Args:
            name: name of the file.
            parts: the content. Parts that are not a list are made one at a time, as the keys of an
                index are, and are collected on the local disk, since memory may not hold them.
        """
        _check_writable(self._url)
        if not isinstance(parts, list | tuple):
            self._upload(name, parts)
            return
        data = _joined(parts)
        with self._connection_errors():
            retried(lambda: self._files.pipe_file(self._path(name), data))

    def _upload(self, name: str, parts: Iterable[Part]) -> None:
        """Collect the parts of a file in a local one, and upload that."""
        options = {"max_concurrency": UPLOAD_PARTS} if "s3" in self._files.protocol else {}
        self._folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._folder, suffix=TEMPORARY) as file:
            for part in parts:
                file.write(buffer_of(part))
            file.flush()
            with self._connection_errors():
                retried(lambda: self._files.put_file(file.name, self._path(name), **options))

    def put_new(self, name: str, parts: Sequence[Part]) -> bool:
        """Write a file by one PUT that fails if the name exists, where the system supports that.

        A PUT whose answer was lost is repeated, and then finds the file that it has written.
        """
        _check_writable(self._url)
        if self.size(name) is not None:
            return False
        data = _joined(parts)
        try:
            with self._connection_errors():
                retried(lambda: self._files.pipe_file(self._path(name), data, mode="create"))
        except FileExistsError:
            return self.read(name) == data
        return True

    def size(self, name: str) -> int | None:
        """Size of a file in bytes."""
        try:
            with self._connection_errors():
                info: dict[str, Any] = retried(lambda: self._files.info(self._path(name)))
        except FileNotFoundError:
            return None
        return info["size"] if info["type"] == "file" else None

    def read_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of each file in order, None for one that does not exist."""
        for first in range(0, len(names), READ_FILES):
            paths = [self._path(name) for name in names[first : first + READ_FILES]]
            contents: dict[str, Any] = {}
            with self._connection_errors():
                retried(partial(self._read_rest, paths, contents))
            yield from (contents[path] for path in paths)

    def _read_rest(self, paths: Sequence[str], contents: dict[str, Any]) -> None:
        """Add the bytes of the files that are not in `contents` yet; None if one does not exist."""
        rest = [path for path in paths if path not in contents]
        failed = None
        options = {"max_concurrency": 1} if "s3" in self._files.protocol else {}  # no HEAD request
        contents_of = self._files.cat(rest, on_error="return", **options) if rest else {}
        for path, data in contents_of.items():
            if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                failed = data
            else:
                contents[path] = None if isinstance(data, Exception) else data
        if failed:
            raise failed

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, sorted."""
        return sorted(self.list_files(folder))

    def list_files(self, folder: str) -> dict[str, FileInfo]:
        """Size of every file below a folder, and its MD5 where the listing has it."""
        self._files.invalidate_cache()
        try:
            with self._connection_errors():
                infos: dict[str, Any] = retried(
                    lambda: self._files.find(self._path(folder), detail=True)
                )
        except FileNotFoundError:
            return {}
        return {
            path[len(self._root) :].strip("/"): FileInfo(info["size"], _listed_md5(info))
            for path, info in infos.items()
        }

    def delete(self, names: Iterable[str]) -> None:
        """Delete the files that exist."""
        existing = [self._path(name) for name in names if self.size(name) is not None]
        if existing:
            with self._connection_errors():
                retried(lambda: self._delete_existing(existing))

    def _delete_existing(self, paths: Sequence[str]) -> None:
        """Delete files, some of which an earlier try may have deleted."""
        try:
            self._files.rm(list(paths))
        except FileNotFoundError:
            for path in paths:
                with suppress(FileNotFoundError):
                    self._files.rm([path])

    def fetch(self, name: str, checksum: str) -> Path:
        """Path of a local copy, which is downloaded if there is none; see `LocalCopies.get`."""

        def download(path: Path) -> None:
            with self._connection_errors():
                retried(lambda: self._files.get_file(self._path(name), str(path)))

        return self._copies.get(name, checksum, download)

    def discard_copy(self, name: str, checksum: str) -> bool:
        """Delete the local copy."""
        self._copies.discard(name, checksum)
        return True

    def checksum(self, name: str) -> str:
        """CRC-32C of a file, which is downloaded for it."""
        return size_and_checksum([self.read(name)])[1]

    def delete_all(self) -> None:
        """Delete everything below the prefix, and the local copies."""
        with self._connection_errors():
            self._files.rm(self._root, recursive=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def delete_partial_writes(self) -> None:
        """Do nothing: an interrupted PUT leaves no file."""

    @contextmanager
    def _connection_errors(self) -> Iterator[None]:
        """Turn the exceptions of each file system's own library into a StoreError."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            raise StoreError(
                f"{self._url} cannot be reached ({error}): check address, credentials and network, "
                "then run the same command again; finished shards are kept"
            ) from error

    def _path(self, name: str) -> str:
        return posixpath.normpath(posixpath.join(self._root, name))


def _joined(parts: Sequence[Part]) -> bytes:
    """The bytes of a file, in one copy of its parts."""
    return b"".join(map(buffer_of, parts))


def _listed_md5(info: Mapping[str, Any]) -> str:
    """The MD5 of a file in a listing of S3 (ETag) or Google Cloud Storage (md5Hash)."""
    tag = str(info.get("ETag") or "").strip('"')
    try:
        tag = tag or base64.b64decode(str(info.get("md5Hash") or "")).hex()
    except binascii.Error:
        return ""
    return tag if _MD5.fullmatch(tag) else ""


def _check_scheme(url: str) -> None:
    scheme = url.partition("://")[0]
    if scheme not in URL_SCHEMES or "::" in url:
        raise UsageError(
            f"{url} cannot be a feature store: specify a path, or a plain URL with one of the "
            f"schemes {', '.join(sorted(URL_SCHEMES))}"
        )


def _check_writable(url: str) -> None:
    """Refuse to write to the Hugging Face hub, where each file would be a commit of its own.

    Raises:
        UsageError: names the way to upload a store.
    """
    if url.startswith("hf://"):
        name = "/".join(url.removeprefix("hf://").removeprefix("datasets/").split("/")[:2])
        raise UsageError(
            f"{url} can only be read: write the store to a folder, then upload it as one commit "
            f"with `epalm push STORE {name}`"
        )
