"""Read the rows of a manifest file, JSONL or CSV, one by one, and check each."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from epalm.errors import MalformedFileError
from epalm.untrusted.json_values import JSON_ERRORS, SURROGATE, parse_error_reason, parse_line
from epalm.untrusted.quoted_values import cut, quote

REQUIRED = ("id", "media")
OPTIONAL = ("prompt", "answers", "question_type", "answer_type")
COLUMNS = REQUIRED + OPTIONAL

ANSWER_SEPARATOR = "|"
"""Separator of the answers in a CSV cell that is not a JSON list."""

DELIMITERS = ",;\t"
"""Delimiters of CSV cells. Excel writes semicolons in locales with decimal commas."""

MAX_LINE_CHARACTERS = 1 << 24
"""A longer line is refused before it is read completely: the file is not JSONL."""

_KNOWN = frozenset(COLUMNS)
_UNNAMED = re.compile(r"|Unnamed: \d+(\.\d+)?")
"""Header of a column without a name: empty, or as pandas names it when it saves it again."""

_EXPECTED_ANSWERS = "a list of non-empty strings"

Cells = Mapping[str, object]


class ManifestRow(NamedTuple):
    """One example of a manifest.

    `id` and `media` are as written; the other texts are stripped of whitespace.

    Attributes:
        file: the manifest file.
        line: line number, from 1; for a CSV record of several lines, the last one.
        id: id of the example, unique within its file.
        media: path of the media file, relative to the manifest's folder.
        prompt: the question; empty for captioning.
        answers: the answers or captions; may be empty outside of training.
        question_type: group for tables of scores; empty if not given.
        answer_type: group for tables of scores; empty if not given.
    """

    file: Path
    line: int
    id: str
    media: str
    prompt: str
    answers: tuple[str, ...]
    question_type: str
    answer_type: str

    def error(self, message: str) -> MalformedFileError:
        """Return an error that names file and line."""
        return _error(self.file, self.line, message)


def read_rows(file: Path) -> Iterator[ManifestRow]:
    """Yield the rows of a manifest file in order; blank lines are skipped.

    Args:
        file: a UTF-8 file; CSV if its name ends in .csv, else JSONL.

    Yields:
        At least one row; only one is in memory at a time.

    Raises:
        MalformedFileError: a line is malformed (names the line, the value and what was expected),
            or the file is empty.
    """
    read = _csv_rows if file.suffix == ".csv" else _json_rows
    number = 0
    try:
        for number, cells in read(file):
            yield _row(file, number, cells)
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error
    if not number:
        raise MalformedFileError(f"{file} contains no example")


def _json_rows(file: Path) -> Iterator[tuple[int, Cells]]:
    with file.open(encoding="utf-8-sig") as stream:
        lines = iter(partial(stream.readline, MAX_LINE_CHARACTERS), "")
        for number, text in enumerate(lines, start=1):
            if (cells := _json_cells(file, number, text)) is not None:
                yield number, cells


def _json_cells(file: Path, number: int, text: str) -> Cells | None:
    """The object of a line; None for a blank line."""
    try:
        value = parse_line(text)
    except JSON_ERRORS as error:
        if not text.strip():
            return None
        _raise_invalid_json(file, number, text, error)
    if type(value) is not dict:
        raise _error(file, number, f"found {cut(text.strip())}, expected an object {{...}}")
    if "\\u" in text:  # only an escape can produce these characters
        _check_characters(file, number, value)
    return value


def parse_row(file: Path, number: int, text: str) -> ManifestRow:
    """The row of one line of a JSONL file that is not blank.

    Raises:
        MalformedFileError: the line is malformed; names its number.
    """
    cells = _json_cells(file, number, text)
    return _row(file, number, cells or {})


def _raise_invalid_json(file: Path, number: int, text: str, error: Exception) -> NoReturn:
    if len(text) >= MAX_LINE_CHARACTERS:
        message = f"longer than {MAX_LINE_CHARACTERS} characters, expected one example per line"
        raise _error(file, number, message) from error
    column = error.colno if isinstance(error, json.JSONDecodeError) else 1
    message = f"invalid JSON at column {column} ({parse_error_reason(error)})"
    raise _error(file, number, message) from error


def _check_characters(file: Path, number: int, cells: Cells) -> None:
    """Refuse lone surrogates, which files and tokenizers cannot encode, and NUL in a path."""
    for name, value in cells.items():
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if isinstance(text, str) and (surrogate := SURROGATE.search(text)):
                code = f"U+{ord(surrogate[0]):04X}"
                raise _error(file, number, f"{name} contains {code}, half of a surrogate pair")
    media = cells.get("media")
    if isinstance(media, str) and "\0" in media:
        raise _error(file, number, f"media {quote(media)} contains a NUL character")


def _csv_rows(file: Path) -> Iterator[tuple[int, Cells]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline(MAX_LINE_CHARACTERS)
        stream.seek(0)
        reader = csv.reader(stream, strict=True, delimiter=_delimiter(first))
        try:
            names: list[str] | None = None
            for row in reader:
                number = reader.line_num
                if not any(map(str.strip, row)):
                    continue
                if names is None:
                    names = _header(file, number, row)
                    continue
                cells = _cells(file, number, names, row)
                _check_characters(file, number, cells)
                yield number, cells
        except csv.Error as error:
            raise _error(file, reader.line_num, str(error)) from error


def _delimiter(header: str) -> str:
    """Find the delimiter that splits the header into the required columns."""
    for delimiter in DELIMITERS:
        if set(REQUIRED) <= {name.strip('"') for name in header.strip().split(delimiter)}:
            return delimiter
    return DELIMITERS[0]


def _header(file: Path, number: int, names: Sequence[str]) -> list[str]:
    """Return the names of the columns, "" for columns without a name."""
    columns = ["" if _UNNAMED.fullmatch(name) else name for name in names]
    for index, name in enumerate(columns):
        if name and name in columns[:index]:
            raise _error(file, number, f"duplicate column {name!r}")
    return columns


def _cells(file: Path, number: int, names: Sequence[str], row: Sequence[str]) -> Cells:
    """Map columns to cells, without an unnamed first column, which is the index of a table."""
    if surplus := [cell for cell in row[len(names) :] if cell.strip()]:
        raise _error(file, number, f"more cells than columns in the header: {surplus}")
    for name, cell in zip(names[1:], row[1:], strict=False):
        if not name and cell.strip():
            raise _error(file, number, f"the cell {quote(cell)} is in a column without a name")
    cells: dict[str, object] = dict(zip(names, row, strict=False))
    cells.pop("", None)
    cells["answers"] = _csv_answers(file, number, str(cells.get("answers", "")))
    return cells


def _csv_answers(file: Path, number: int, cell: str) -> object:
    if not cell.strip():
        return []
    if not cell.lstrip().startswith("["):
        return cell.split(ANSWER_SEPARATOR)
    try:
        return json.loads(cell)
    except JSON_ERRORS as error:
        message = f"answers begin with '[' but are not a JSON list ({parse_error_reason(error)})"
        raise _error(file, number, message) from error


def _row(file: Path, number: int, cells: Cells) -> ManifestRow:
    if not cells.keys() <= _KNOWN:
        unknown = ", ".join(sorted(map(repr, cells.keys() - _KNOWN)))
        raise _error(file, number, f"unknown columns {unknown}; known are {', '.join(COLUMNS)}")
    get = cells.get
    name = get("id")
    if type(name) is int:
        name = str(name)
    media = _text(file, number, "media", get("media"))
    name = _text(file, number, "id", name)
    if not (name.strip() and media.strip()):
        missing = [key for key, text in (("id", name), ("media", media)) if not text.strip()]
        raise _error(file, number, f"{' and '.join(missing)} missing or empty")
    return ManifestRow(
        file,
        number,
        name,
        media,
        _text(file, number, "prompt", get("prompt")).strip(),
        _answers(file, number, get("answers")),
        _text(file, number, "question_type", get("question_type")).strip(),
        _text(file, number, "answer_type", get("answer_type")).strip(),
    )


def _text(file: Path, number: int, name: str, value: object) -> str:
    if type(value) is str:
        return value
    if value is None:
        return ""
    raise _error(file, number, f"{name} is {quote(value)}, expected a string")


def _answers(file: Path, number: int, value: object) -> tuple[str, ...]:
    if type(value) is not list:
        if value is None:
            return ()
        raise _error(file, number, f"answers is {quote(value)}, expected {_EXPECTED_ANSWERS}")
    answers = tuple([answer.strip() if type(answer) is str else "" for answer in value])
    if "" in answers:
        invalid = quote(value[answers.index("")])
        message = f"answers contains {invalid}, expected {_EXPECTED_ANSWERS}"
        raise _error(file, number, message)
    return answers


def _error(file: Path, number: int, message: str) -> MalformedFileError:
    return MalformedFileError(f"{file}, line {number}: {message}")
