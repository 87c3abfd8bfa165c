"""Read large JSON files record by record: memory for one record, not for the file.

Published annotation files have up to a gigabyte, most of it one list or one object of small
objects. `json.load` would need several times that in memory. ijson is not used: its fastest backend
is slower than one call of `json` per record, and its errors have neither line nor column.
"""

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from epalm.errors import MalformedFileError
from epalm.tasks.readers.json_record import JsonRecord
from epalm.untrusted.json_values import JSON_ERRORS, encoding_error, parse_error_reason
from epalm.untrusted.quoted_values import MAX_QUOTED_CHARACTERS

CHUNK_BYTES = 1 << 20
"""Number of bytes read at once; more if a single record is larger."""

MAX_TOKEN_CHARACTERS = 16
"""An error this close to the end of a chunk may be a keyword, number or escape that continues in
the next chunk ("tru", "-1e", "\\ud83d\\ude")."""

MAX_VALUE_CHARACTERS = 1 << 28
"""A longer record is refused before it fills the memory: the file is damaged."""

_NON_WHITESPACE = re.compile(r"[^ \t\n\r]")


def stream_member(file: Path, member: str) -> Iterator[JsonRecord]:
    """Yield the objects of the list `member` of the outermost object.

    Args:
        file: a UTF-8 file.
        member: name of the list, e.g. "questions"; other members are skipped.

    Yields:
        The objects in file order.

    Raises:
        MalformedFileError: the JSON is invalid (names line and column), the member is missing or
            not a list, or one of its elements is not an object. The file is read to its end.
    """
    with _open_cursor(file) as cursor:
        cursor.check("{", "an object")
        is_present = False
        for name in cursor.members():
            if name != member:
                cursor.skip()
                continue
            is_present = True
            cursor.check("[", "a list", name)
            for index, value in enumerate(cursor.elements()):
                yield JsonRecord(value, file, f"{member}[{index}]")
        cursor.check_end()
        if not is_present:
            raise MalformedFileError(f"{file}: {member} is missing, expected a list")


def stream_list(file: Path) -> Iterator[JsonRecord]:
    """Yield the objects of a file whose outermost value is a list.

    Raises:
        MalformedFileError: `stream_member` refuses the file, or the list is empty.
    """
    expected = "a list of objects"
    with _open_cursor(file) as cursor:
        cursor.check("[", expected)
        index = -1
        for index, value in enumerate(cursor.elements()):
            yield JsonRecord(value, file, f"[{index}]")
        cursor.check_end()
        if index < 0:
            raise MalformedFileError(f"{file} is [], expected {expected}")


def stream_object(file: Path) -> Iterator[tuple[str, JsonRecord]]:
    """Yield the names and objects of a file whose outermost value is an object of objects.

    Raises:
        MalformedFileError: `stream_member` refuses the file, or the object is empty.
    """
    expected = "an object of objects"
    with _open_cursor(file) as cursor:
        cursor.check("{", expected)
        name = None
        for name in cursor.members():
            yield name, JsonRecord(cursor.value(), file, name)
        cursor.check_end()
        if name is None:
            raise MalformedFileError(f"{file} is {{}}, expected {expected}")


@contextmanager
def _open_cursor(file: Path) -> "Iterator[_JsonCursor]":
    with file.open("rb") as stream:
        yield _JsonCursor(stream, file)


class _JsonCursor:
    """A cursor over the values of a file; keeps only the text from the cursor on in memory."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        self._stream = stream
        self._file = file
        self._decode = json.JSONDecoder().raw_decode
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0
        self._text = ""
        self._index = 0
        self._line = 1
        self._column = 1
        while not self._text and self._more():
            pass
        self._text = self._text.removeprefix("\ufeff")

    def value(self) -> object:
        """Read the value at the cursor, and move past it."""
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._index)
            except JSON_ERRORS as error:
                if not isinstance(error, json.JSONDecodeError):
                    raise self._invalid(parse_error_reason(error), self._index) from error
                if self._may_continue(error) and self._more():
                    continue
                raise self._invalid(error.msg, error.pos) from error
            self._check_characters(value, end)
            # A number at the end of the chunk may continue in the next one.
            if end < len(self._text) or not self._more():
                self._index = end
                return value

    def _check_characters(self, value: object, end: int) -> None:
        """Refuse lone surrogates, which only an escape can produce."""
        if self._text.find("\\u", self._index, end) >= 0 and (reason := encoding_error(value)):
            line, column = self._position(self._index)
            raise MalformedFileError(
                f"{self._file}: the value at line {line}, column {column} contains {reason}"
            )

    def skip(self) -> None:
        """Skip the value at the cursor; a list is skipped element by element."""
        if self._peek() == "[":
            for _ in self.elements():
                pass
        else:
            self.value()

    def elements(self) -> Iterator[object]:
        """Yield the values of the list at the cursor."""
        self._take("[")
        if self._peek() != "]":
            yield self.value()
            while self._peek() == ",":
                self._index += 1
                yield self.value()
        self._take("]")

    def members(self) -> Iterator[str]:
        """Yield the names of the object at the cursor; read each value before the next name."""
        self._take("{")
        if self._peek() != "}":
            yield self._name()
            while self._peek() == ",":
                self._index += 1
                yield self._name()
        self._take("}")

    def check(self, opening: str, expected: str, member: str = "") -> None:
        """Check that the value at the cursor begins with `opening`, "{" or "["."""
        character = self._peek()
        if character == "":
            raise self._invalid("the file ends here", self._index)
        if character != opening:
            while len(self._text) - self._index < MAX_QUOTED_CHARACTERS and self._more():
                pass
            quoted = self._text[self._index : self._index + MAX_QUOTED_CHARACTERS].strip()
            where = f"{self._file}: {member}" if member else str(self._file)
            raise MalformedFileError(f"{where} is {quoted}, expected {expected}")

    def check_end(self) -> None:
        """Check that nothing follows the outermost value."""
        if self._peek() != "":
            raise self._invalid("text after the end", self._index)

    def _name(self) -> str:
        if self._peek() != '"':
            raise self._invalid("a name in quotes is missing", self._index)
        name = str(self.value())
        self._take(":")
        return name

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise self._invalid(f"{mark!r} is missing", self._index)
        self._index += 1

    def _peek(self) -> str:
        """Move to the next non-whitespace character and return it; "" at the end of the file."""
        while True:
            if match := _NON_WHITESPACE.search(self._text, self._index):
                self._index = match.start()
                return match[0]
            self._index = len(self._text)
            if not self._more():
                return ""

    def _may_continue(self, error: json.JSONDecodeError) -> bool:
        is_string = error.msg.startswith("Unterminated string")
        return is_string or error.pos > len(self._text) - MAX_TOKEN_CHARACTERS

    def _more(self) -> bool:
        """Read another chunk; False at the end of the file."""
        if len(self._text) - self._index > MAX_VALUE_CHARACTERS:
            raise self._invalid(
                f"a value of more than {MAX_VALUE_CHARACTERS} characters", self._index
            )
        chunk = self._stream.read(max(CHUNK_BYTES, len(self._text) - self._index))
        pending = len(self._utf8.getstate()[0])
        try:
            text = self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            offset = self._bytes - pending + error.start
            raise MalformedFileError(f"{self._file}: byte {offset} is not UTF-8") from error
        if not chunk:
            return False
        self._line, self._column = self._position(self._index)
        self._bytes += len(chunk)
        self._text = self._text[self._index :] + text
        self._index = 0
        return True

    def _position(self, index: int) -> tuple[int, int]:
        """Line and column in the file, from 1, of an index into the text in memory."""
        lines = self._text.count("\n", 0, index)
        if not lines:
            return self._line, self._column + index
        return self._line + lines, index - self._text.rfind("\n", 0, index)

    def _invalid(self, reason: str, index: int) -> MalformedFileError:
        line, column = self._position(index)
        return MalformedFileError(
            f"{self._file}: invalid JSON at line {line}, column {column} ({reason}); "
            "if its download was interrupted, download it again"
        )
