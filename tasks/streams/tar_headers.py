"""List the files of a tar archive from its headers alone, several times as fast as `tarfile`.

Plain headers and long names of GNU tar and of pax are read here. An archive with anything else
(sparse files, global pax headers, numbers in base 256, damage) is left to `tarfile`.
"""

import os
import tarfile
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError
from epalm.tasks.types import ByteRange
from epalm.untrusted.json_values import SURROGATE
from epalm.untrusted.quoted_values import quote

BLOCK = tarfile.BLOCKSIZE

MAX_LONG_NAME = 1 << 16
"""Longest extended header that is read here."""

_EMPTY = bytes(BLOCK)
_OCTAL = frozenset(b"01234567")
_REGULAR, _FOLDER = b"0\0", b"5"
_CHECKSUM = slice(148, 156)


class TarMember(NamedTuple):
    """A regular file of an archive.

    Attributes:
        name: name of the member, without a leading "./".
        offset: first byte of its content.
        nbytes: number of bytes.
    """

    name: str
    offset: int
    nbytes: int


class _OtherHeaderError(Exception):
    """The archive has a header that is left to tarfile."""


def list_members(file: Path) -> list[TarMember]:
    """The regular files of an uncompressed tar archive, in its order.

    Raises:
        MalformedFileError: the file is not a complete, uncompressed tar archive, or a name is not
            UTF-8.
    """
    try:
        with file.open("rb", buffering=0) as archive:
            members = _fast_members(archive.fileno())
    except (_OtherHeaderError, OSError):
        members = _tarfile_members(file)
    for member in members:
        if not member.name.isascii() and SURROGATE.search(member.name):
            raise MalformedFileError(f"{file}: the member name {quote(member.name)} is not UTF-8")
    return members


def _fast_members(descriptor: int) -> list[TarMember]:
    size, offset, long_name = os.fstat(descriptor).st_size, 0, ""
    members: list[TarMember] = []
    while (header := os.pread(descriptor, BLOCK, offset)) != _EMPTY:
        kind, name, nbytes = _parse(header)
        start = offset + BLOCK
        offset = start + -(-nbytes // BLOCK) * BLOCK
        if start + nbytes > size:
            raise _OtherHeaderError
        if kind in b"xL":
            long_name = _long_name(kind, descriptor, start, nbytes)
            continue
        if kind in _REGULAR and not (kind == b"\0" and name.endswith("/")):
            members.append(TarMember((long_name or name).removeprefix("./"), start, nbytes))
        long_name = ""
    return members


def _parse(header: bytes) -> tuple[bytes, str, int]:
    """Kind, name and size of a header; the checksum is that of POSIX: the sum of its bytes."""
    if len(header) != BLOCK:
        raise _OtherHeaderError
    kind = header[156:157]
    if kind not in b"0\05xL":
        raise _OtherHeaderError
    blank = sum(header) - sum(header[_CHECKSUM]) + 8 * ord(" ")
    if _number(header[_CHECKSUM]) != blank:
        raise _OtherHeaderError
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and kind != b"L":
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return kind, name.decode("utf-8", "surrogateescape"), _number(header[124:136])


def _number(field: bytes) -> int:
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits or not _OCTAL.issuperset(digits):
        raise _OtherHeaderError
    return int(digits, 8)


def _long_name(kind: bytes, descriptor: int, start: int, nbytes: int) -> str:
    """The name in the extended header before a member; "" if a pax header has none."""
    if nbytes > MAX_LONG_NAME:
        raise _OtherHeaderError
    data = os.pread(descriptor, nbytes, start)
    if kind == b"L":
        return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    return _pax_path(data)


def _pax_path(data: bytes) -> str:
    """The value of "path" in the records "LENGTH KEY=VALUE" of a pax header."""
    path, at = "", 0
    while at < len(data):
        digits, space, _ = data[at : at + 20].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not (equals and record.endswith(b"\n")) or key not in _HARMLESS:
            raise _OtherHeaderError
        if key == b"path":
            try:
                path = value[:-1].decode("utf-8")
            except UnicodeDecodeError as error:
                raise _OtherHeaderError from error
        at += length
    return path


_HARMLESS = {*(b"path", b"mtime", b"atime", b"ctime"), *(b"uname", b"gname", b"uid", b"gid")}
"""Keys of pax headers that do not change where the content of a member is."""


def _tarfile_members(file: Path) -> list[TarMember]:
    try:
        # After the first header, tarfile silently stops at what it cannot read: check that it
        # stopped at the empty block that ends every archive.
        with tarfile.open(file, "r:") as archive:
            members = [
                TarMember(member.name.removeprefix("./"), member.offset_data, member.size)
                for member in archive
                if member.isreg()
            ]
            end = archive.offset
        if any(ByteRange(end, BLOCK).read(file)):
            raise tarfile.ReadError(f"no header at byte {end}")
    except (tarfile.TarError, OSError) as error:
        raise MalformedFileError(
            f"{file} is not a complete, uncompressed tar file ({error}): download it again, or "
            "decompress it"
        ) from error
    return members
