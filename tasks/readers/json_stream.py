"""JSON files of any size, one record after the other: memory for one record, not for the file.

The published files that this is for have up to a gigabyte, all of it one list of small objects, or
one object of them. `json` alone would take several times that in memory. Not ijson: its fastest
backend is slower than a C call of `json` per record, and says neither line nor column of an error.
"""

import codecs
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from epalm.errors import MalformedFileError
from epalm.tasks.readers.data_files import JsonRecord
from epalm.tasks.readers.json_values import NOT_JSON, SHOWN_CHARACTERS, described, unusable

CHUNK_BYTES = 1 << 20
"""Read at once; more where a single record is larger."""

LONGEST_MARK = 16
"""An error so many characters before the end of what was read may be a cut word, number or escape
("tru", "-1e", "\\ud83d\\ude"): the next chunk tells."""

LONGEST_VALUE = 1 << 28
"""Characters of a record. What is longer is damaged, and is refused before it fills the memory."""

_WORD = re.compile(r"[^ \t\n\r]")


def stream_member(file: Path, member: str) -> Iterator[JsonRecord]:
    """The objects of the list that an outermost object's `member` is.

    Args:
        file: UTF-8.
        member: name of the list, e.g. "questions"; other members are passed over.

    Yields:
        The objects in file order, each knowing its place.

    Raises:
        MalformedFileError: no JSON (says from which line and column on), no such member, no list,
            or something else than an object in it. The file is read to its end.
    """
    with _reading(file) as values:
        values.check("{", "an object")
        found = False
        for name in values.members():
            if name != member:
                values.skip()
                continue
            found = True
            values.check("[", "a list", name)
            for index, value in enumerate(values.elements()):
                yield JsonRecord(value, file, f"{member}[{index}]")
        values.check_end()
        if not found:
            raise MalformedFileError(f"{file}: {member} is missing, wanted a list")


def stream_list(file: Path) -> Iterator[JsonRecord]:
    """The objects of a file whose outermost value is a list; arguments and errors likewise.

    Raises:
        MalformedFileError: see `stream_member`; an empty list counts as malformed, too.
    """
    wanted = "a list of objects"
    with _reading(file) as values:
        values.check("[", wanted)
        index = -1
        for index, value in enumerate(values.elements()):
            yield JsonRecord(value, file, f"[{index}]")
        values.check_end()
        if index < 0:
            raise MalformedFileError(f"{file} is [], wanted {wanted}")


def stream_object(file: Path) -> Iterator[tuple[str, JsonRecord]]:
    """The names and objects of a file whose outermost value is an object of objects.

    Raises:
        MalformedFileError: see `stream_member`; an empty object counts as malformed, too.
    """
    wanted = "an object of objects"
    with _reading(file) as values:
        values.check("{", wanted)
        name = None
        for name in values.members():
            yield name, JsonRecord(values.value(), file, name)
        values.check_end()
        if name is None:
            raise MalformedFileError(f"{file} is {{}}, wanted {wanted}")


@contextmanager
def _reading(file: Path) -> "Iterator[_Values]":
    with file.open("rb") as stream:
        yield _Values(stream, file)


class _Values:
    """A cursor over the values of a file; keeps what was read from the cursor on, and no more."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        self._stream = stream
        self._file = file
        self._decode = json.JSONDecoder().raw_decode
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0
        self._text = ""
        self._at = 0
        self._line = 1
        self._column = 1
        while not self._text and self._more():
            pass
        self._text = self._text.removeprefix("\ufeff")

    def value(self) -> object:
        """The value at the cursor, which moves behind it."""
        self._peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except NOT_JSON as error:
                if not isinstance(error, json.JSONDecodeError):
                    raise self._broken(described(error), self._at) from error
                if self._is_cut(error) and self._more():
                    continue
                raise self._broken(error.msg, error.pos) from error
            self._check_characters(value, end)
            # A number at the very end may go on in the next chunk.
            if end < len(self._text) or not self._more():
                self._at = end
                return value

    def _check_characters(self, value: object, end: int) -> None:
        """Refuse half a surrogate pair, which only an escape can give."""
        if self._text.find("\\u", self._at, end) >= 0 and (reason := unusable(value)):
            line, column = self._place(self._at)
            raise MalformedFileError(
                f"{self._file}: the value at line {line}, column {column} holds {reason}"
            )

    def skip(self) -> None:
        """Pass over the value at the cursor; a list element by element."""
        if self._peek() == "[":
            for _ in self.elements():
                pass
        else:
            self.value()

    def elements(self) -> Iterator[object]:
        """The values of the list at the cursor."""
        self._take("[")
        if self._peek() != "]":
            yield self.value()
            while self._peek() == ",":
                self._at += 1
                yield self.value()
        self._take("]")

    def members(self) -> Iterator[str]:
        """The names of the object at the cursor; each value is to be taken before the next name."""
        self._take("{")
        if self._peek() != "}":
            yield self._name()
            while self._peek() == ",":
                self._at += 1
                yield self._name()
        self._take("}")

    def check(self, opening: str, wanted: str, place: str = "") -> None:
        """Refuse a value at the cursor that does not begin with "{" or "["."""
        found = self._peek()
        if found == "":
            raise self._broken("the file ends here", self._at)
        if found != opening:
            while len(self._text) - self._at < SHOWN_CHARACTERS and self._more():
                pass
            shown = self._text[self._at : self._at + SHOWN_CHARACTERS].strip()
            at = f"{self._file}: {place}" if place else str(self._file)
            raise MalformedFileError(f"{at} is {shown}, wanted {wanted}")

    def check_end(self) -> None:
        """Refuse anything behind the outermost value."""
        if self._peek() != "":
            raise self._broken("more behind the end", self._at)

    def _name(self) -> str:
        if self._peek() != '"':
            raise self._broken("a name in quotes is missing", self._at)
        name = str(self.value())
        self._take(":")
        return name

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            raise self._broken(f"{mark!r} is missing", self._at)
        self._at += 1

    def _peek(self) -> str:
        """The next character that is no white space, the cursor now before it; "" at the end."""
        while True:
            if found := _WORD.search(self._text, self._at):
                self._at = found.start()
                return found[0]
            self._at = len(self._text)
            if not self._more():
                return ""

    def _is_cut(self, error: json.JSONDecodeError) -> bool:
        unfinished = error.msg.startswith("Unterminated string")
        return unfinished or error.pos > len(self._text) - LONGEST_MARK

    def _more(self) -> bool:
        """Read on behind the cursor; False at the end of the file."""
        if len(self._text) - self._at > LONGEST_VALUE:
            raise self._broken(f"a value of more than {LONGEST_VALUE} characters", self._at)
        chunk = self._stream.read(max(CHUNK_BYTES, len(self._text) - self._at))
        waiting = len(self._utf8.getstate()[0])
        try:
            text = self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            place = self._bytes - waiting + error.start
            raise MalformedFileError(f"{self._file}: byte {place} is not UTF-8") from error
        if not chunk:
            return False
        self._line, self._column = self._place(self._at)
        self._bytes += len(chunk)
        self._text = self._text[self._at :] + text
        self._at = 0
        return True

    def _place(self, position: int) -> tuple[int, int]:
        """Line and column in the file, from 1, of a position in what is kept."""
        lines = self._text.count("\n", 0, position)
        if not lines:
            return self._line, self._column + position
        return self._line + lines, position - self._text.rfind("\n", 0, position)

    def _broken(self, reason: str, position: int) -> MalformedFileError:
        line, column = self._place(position)
        return MalformedFileError(
            f"{self._file}: no JSON from line {line}, column {column} on ({reason}); "
            "if a download was cut short, fetch the file again"
        )
