"""The interface to the files of a store, local or remote.

A storage is a folder of a file system (`epalm.cache.storage.local_storage`) or a prefix of an
object store (`epalm.cache.storage.fsspec_storage`). File names are relative to it, with forward
slashes. Every write is atomic: local files appear by rename after an fsync, remote ones by a PUT or
at the end of an upload in parts. If a writer is killed, each name shows all of its bytes or does
not exist.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from epalm.cache.storage.checksum import Part


class FileInfo(NamedTuple):
    """What a listing says about a file.

    Attributes:
        size: size in bytes.
        md5: MD5 of its content, 32 hexadecimal digits; "" if the listing does not have it. An
            object store may give another digest of the same length, e.g. of encrypted content.
    """

    size: int
    md5: str = ""


class Storage(Protocol):
    """The files of one store.

    Every method raises OSError when the file system refuses the operation.

    Attributes:
        makes_copies: whether files that are read often are copied to the local disk first.
    """

    makes_copies: bool

    def read(self, name: str) -> bytes:
        """All bytes of a file; FileNotFoundError if it does not exist."""

    def read_many(self, names: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of each file in order, None for one that does not exist; read in parallel."""

    def put(self, name: str, parts: Sequence[Part]) -> None:
        """Write or replace a file atomically."""

    def put_new(self, name: str, parts: Sequence[Part]) -> bool:
        """Write a file atomically unless it exists; True if it was written."""

    def size(self, name: str) -> int | None:
        """Size of a file in bytes, None if it does not exist."""

    def names(self, folder: str) -> list[str]:
        """Every file below a folder, sorted; "" lists the whole storage."""

    def list_files(self, folder: str) -> dict[str, FileInfo]:
        """Name and size of every file below a folder, of a single listing."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete the files that exist."""

    def fetch(self, name: str, checksum: str) -> Path:
        """Path of the file on the local disk: the file itself, or a copy with this CRC-32C."""

    def discard_copy(self, name: str, checksum: str) -> bool:
        """Delete a local copy that turned out damaged; False if the storage makes no copies."""

    def checksum(self, name: str) -> str:
        """CRC-32C of a file, as eight hexadecimal digits; FileNotFoundError if it is missing."""

    def delete_all(self) -> None:
        """Delete every file of the storage."""

    def delete_partial_writes(self) -> None:
        """Delete the temporary files of killed writers."""


def has_content(storage: Storage, name: str, data: bytes) -> bool:
    """Whether a file is there with this content, so that a read-only store needs no write."""
    try:
        return storage.read(name) == data
    except FileNotFoundError:
        return False
