"""Access to the members of a JSON object, with type checks and precise errors."""

from collections.abc import Iterator
from pathlib import Path

from epalm.errors import MalformedFileError
from epalm.untrusted.quoted_values import quote

_MAX_DIGITS = 18
"""Maximum number of digits of an integer that fits into 64 bits."""


class JsonRecord:
    """A JSON object whose members are checked when they are read.

    Every method raises MalformedFileError if the member is missing or has the wrong type. The
    message names the file and the position in it.

    Args:
        value: the parsed JSON value.
        file: the file it was read from.
        path: position in the file, e.g. "images[3]"; empty for the outermost object.

    Raises:
        MalformedFileError: `value` is not an object.
    """

    __slots__ = ("_file", "_members", "_path")

    def __init__(self, value: object, file: Path, path: str = "") -> None:
        if not isinstance(value, dict):
            where = f"{file}: {path}" if path else str(file)
            raise MalformedFileError(f"{where} is {quote(value)}, expected an object")
        self._members: dict[str, object] = value
        self._file = file
        self._path = path

    def has(self, name: str) -> bool:
        """Whether the object has a member of this name."""
        return name in self._members

    def text(self, name: str) -> str:
        """Return a non-empty string, stripped of whitespace."""
        value = self._member(name, "a string")
        if not isinstance(value, str) or not value.strip():
            raise self.error(name, value, "a string that is not empty")
        return value.strip()

    def file_name(self, name: str) -> str:
        """Return a non-empty string unchanged: file names may begin or end with spaces."""
        self.text(name)
        return self.identifier(name)

    def identifier(self, name: str) -> str:
        """Return an integer or a non-empty string, as a string."""
        value = self._member(name, "an integer or a string")
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise self.error(name, value, "an integer or a string that is not empty")
        if isinstance(value, str) and "\0" in value:
            raise self.error(name, value, "a string without NUL characters")
        return str(value)

    def optional_text(self, name: str) -> str:
        """Return a string stripped of whitespace; "" if it is missing, null or empty."""
        value = self._members.get(name)
        if value is not None and not isinstance(value, str):
            raise self.error(name, value, "a string")
        return (value or "").strip()

    def integer(self, name: str) -> int:
        """Return a non-negative integer, which may be written as a string of digits."""
        value = self.identifier(name)
        if not value.isdecimal() or len(value) > _MAX_DIGITS:
            raise self.error(name, value, f"a number of at most {_MAX_DIGITS} digits")
        return int(value)

    def record(self, name: str) -> "JsonRecord":
        """Return a nested object."""
        path = f"{self._path}.{name}" if self._path else name
        return JsonRecord(self._member(name, "an object"), self._file, path)

    def member_texts(self, name: str, member: str) -> list[str]:
        """Return the string `member` of each object of a list, stripped; strings may be empty."""
        texts = []
        for index, value in enumerate(self._list(name)):
            text = value.get(member) if isinstance(value, dict) else None
            if not isinstance(text, str):
                raise self.error(f"{name}[{index}]", value, f"an object with a string {member!r}")
            texts.append(text.strip())
        return texts

    def text_list(self, name: str) -> list[str]:
        """Return a non-empty list of non-empty strings; a single string becomes a list of one."""
        value = self._member(name, "a string or a list of strings")
        values = value if isinstance(value, list) else [value]
        for text in values or [value]:
            if not isinstance(text, str) or not text.strip():
                raise self.error(name, value, "a string or a list of strings, none of them empty")
        return [str(text).strip() for text in values]

    def scores(self, name: str, *, at_least: int = 1) -> dict[str, float]:
        """Return an object that maps at least `at_least` texts (stripped) to scores from 0 to 1."""
        expected = f"an object with at least {at_least} answer -> score from 0 to 1"
        value = self._member(name, expected)
        if not isinstance(value, dict) or len(value) < at_least:
            raise self.error(name, value, expected)
        for score in value.values():
            if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
                raise self.error(name, value, expected)
        return {str(text).strip(): float(score) for text, score in value.items()}

    def records(self, name: str) -> "Iterator[JsonRecord]":
        """Yield the objects of a list."""
        path = f"{self._path}.{name}" if self._path else name
        for index, value in enumerate(self._list(name)):
            yield JsonRecord(value, self._file, f"{path}[{index}]")

    def error(self, name: str, value: object, expected: str) -> MalformedFileError:
        """Return an error that states the value of a member and what was expected."""
        return MalformedFileError(f"{self._where(name)} is {quote(value)}, expected {expected}")

    def _list(self, name: str) -> list[object]:
        value = self._member(name, "a list")
        if not isinstance(value, list):
            raise self.error(name, value, "a list")
        return value

    def _member(self, name: str, expected: str) -> object:
        if name not in self._members:
            raise MalformedFileError(f"{self._where(name)} is missing, expected {expected}")
        return self._members[name]

    def _where(self, name: str) -> str:
        return f"{self._file}: {self._path}.{name}" if self._path else f"{self._file}: {name}"
