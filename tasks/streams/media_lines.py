"""Stream the media files of a JSONL manifest, several times as fast as with `read_rows`.

A line whose values are as usual is accepted by a few tests of types; every other line is checked by
the functions behind `read_rows`, so that both accept the same lines.
"""

import json.scanner
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from epalm.errors import MalformedFileError
from epalm.tasks import manifest
from epalm.tasks.readers.manifest_rows import COLUMNS, ManifestRow, parse_row, read_rows
from epalm.tasks.types import Kind, Modality
from epalm.untrusted.json_values import JSON_ERRORS

CHUNK_BYTES = 1 << 20
"""Bytes that are read at a time."""

MAX_LINE_BYTES = 1 << 26
"""A longer line is left to `read_rows`, which refuses it."""

_KNOWN = frozenset(COLUMNS)
_BOM = b"\xef\xbb\xbf"
_OTHER_VALUES = (KeyError, TypeError, AttributeError)
_scan = cast("Callable[[str, int], tuple[Any, int]]", json.scanner.make_scanner(json.JSONDecoder()))  # type: ignore[arg-type]


class _UnusualLineError(Exception):
    """A line that is not accepted by the fast tests."""


class MediaLines:
    """The media files of a manifest file, all of the kind and modality of its first line."""

    def __init__(self, file: Path, kind: Kind, modality: Modality, first: Path) -> None:
        """Read nothing yet.

        Args:
            file: a JSONL file.
            kind: "qa" if every line must have a prompt, "caption" if none may have one.
            modality: modality of every media file.
            first: the first file of the manifest, for error messages.
        """
        self.file = file
        self._kind: Kind = kind
        self._modality: Modality = modality
        self._first = first

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[list[str]]:
        """The media of the lines that begin in a range of bytes, in order, some thousand at a time.

        Args:
            start: first byte of the range.
            stop: byte after its last one; None for the whole rest.

        Raises:
            MalformedFileError: a line is malformed, has another kind or modality; names the line.
        """
        try:
            for lines in _lines(self.file, start, stop):
                yield self._media(lines)
        except (_UnusualLineError, MalformedFileError, UnicodeDecodeError) as error:
            self.check()  # raises the error with the number of the line
            raise MalformedFileError(f"{self.file} changed while it was read") from error

    def check(self) -> None:
        """Read the whole file in the slow way; raises the error of the first malformed line."""
        for row in read_rows(self.file):
            self.check_row(row)

    def check_row(self, row: ManifestRow) -> None:
        """Refuse a line of another kind or modality.

        Raises:
            MalformedFileError: names the line.
        """
        manifest.check_kind(row, self._kind, self._first)
        if (modality := manifest.modality_of(row)) != self._modality:
            raise row.error(
                f"media {row.media!r} is {modality}, the first line of {self._first.name} has "
                f"{self._modality}: a store has one modality, so split the manifest"
            )

    def _media(self, lines: list[str]) -> list[str]:
        media, modalities, is_qa = [], manifest.MODALITY_OF, self._kind == "qa"
        for line in lines:
            try:
                value, end = _scan(line, 0)
                name = value["media"]
                if (
                    end != len(line)
                    or not _is_usual(value, name, line)
                    or bool(value.get("prompt", "").strip()) != is_qa
                    or modalities.get(name[name.rfind(".") :]) != self._modality
                ):
                    raise _UnusualLineError
            except (_UnusualLineError, StopIteration, *_OTHER_VALUES, *JSON_ERRORS):
                if not line.strip():
                    continue
                row = parse_row(self.file, 0, line)
                self.check_row(row)
                name = row.media
            media.append(name)
        return media


def _is_usual(value: Any, name: Any, line: str) -> bool:  # noqa: ANN401 - parsed JSON
    """Whether a line needs no further check."""
    if type(value) is not dict or type(name) is not str or not name.strip() or "\\u" in line:
        return False
    number = value.get("id")
    if type(number) is not int and not (type(number) is str and number.strip()):
        return False
    if len(value) > 2 and not _are_usual(value):
        return False
    return value.keys() <= _KNOWN


def _are_usual(value: dict[str, Any]) -> bool:
    """Whether the optional members need no further check."""
    for name, member in value.items():
        if name == "answers":
            if type(member) is not list:
                return False
            for answer in member:
                if type(answer) is not str or not answer or answer.isspace():
                    return False
        elif name != "id" and type(member) is not str:
            return False
    return True


def _lines(file: Path, start: int, stop: int | None) -> Iterator[list[str]]:
    """The lines that begin in a range of bytes, without their line feeds, chunk by chunk."""
    with file.open("rb", buffering=0) as stream:
        at = _seek_line(stream, start)
        size = file.stat().st_size
        stop = size if stop is None else min(stop, size)
        rest = b""
        while at < stop:
            wanted = stop - at - len(rest)
            new = stream.read(min(CHUNK_BYTES, wanted) if wanted > 0 else CHUNK_BYTES)
            data = rest + new
            whole = data.rfind(b"\n") + 1
            if not new or at + len(data) >= size:
                whole = len(data)
            elif not whole:
                if len(data) > MAX_LINE_BYTES:
                    raise _UnusualLineError
                rest = data
                continue
            block, rest = data[:whole], data[whole:]
            yield _decode(block, stop - at, first=at == 0)
            at += whole


def _seek_line(stream: BinaryIO, start: int) -> int:
    """Move to the first line that begins at `start` or later; its position."""
    if not start:
        return 0
    at = stream.seek(start - 1)
    while data := stream.read(CHUNK_BYTES):
        found = data.find(b"\n")
        if found >= 0:
            return stream.seek(at + found + 1)
        at += len(data)
    return at


def _decode(block: bytes, nbytes: int, *, first: bool) -> list[str]:
    """The lines of whole lines that begin in the first `nbytes` bytes."""
    if first and block.startswith(_BOM):
        block = b" " * len(_BOM) + block[len(_BOM) :]
    if len(block) > nbytes:
        block = block[: block.find(b"\n", nbytes - 1) + 1] or block
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return block.decode().removesuffix("\n").split("\n")
