"""The lines of a manifest file, JSONL or CSV, one after the other, each checked."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from epalm.errors import MalformedFileError
from epalm.tasks.readers.json_values import NOT_JSON, SURROGATE, described, parse, parse_line, shown

REQUIRED = ("id", "media")
OPTIONAL = ("prompt", "answers", "question_type", "answer_type")
COLUMNS = REQUIRED + OPTIONAL

ANSWER_SEPARATOR = "|"
"""Between the answers in a CSV cell that holds no JSON list."""

DELIMITERS = ",;\t"
"""Of CSV cells. Excel writes semicolons where numbers have decimal commas."""

LONGEST_LINE = 1 << 24
"""Characters. A longer line is refused before it is in memory: the file is no JSONL then."""

_KNOWN = frozenset(COLUMNS)
_UNNAMED = re.compile(r"|Unnamed: \d+(\.\d+)?")
"""Header of a column without a name, as written and as pandas writes it the second time."""

_WANTED_ANSWERS = "a list of strings, none of them empty"

Cells = Mapping[str, object]


class Line(NamedTuple):
    """One example of a manifest.

    `id` and `media` are as written; outer white space of the other texts is removed.

    Attributes:
        file: the manifest file.
        number: line number, from 1; in CSV the last line of a record of several lines.
        id: the example's id, unique within its file.
        media: path of the medium, relative to the manifest's folder.
        prompt: the question; empty for captioning.
        answers: may be empty where nothing is taught or scored.
        question_type: group for tables of scores; empty if not given.
        answer_type: likewise.
    """

    file: Path
    number: int
    id: str
    media: str
    prompt: str
    answers: tuple[str, ...]
    question_type: str
    answer_type: str

    def wrong(self, message: str) -> MalformedFileError:
        """An error that names file and line."""
        return _wrong(self.file, self.number, message)


def read_lines(file: Path) -> Iterator[Line]:
    """The lines of a manifest file in order; blank ones are skipped.

    Args:
        file: JSONL, or CSV if its name ends in .csv; UTF-8.

    Yields:
        At least one line. No more than one is in memory.

    Raises:
        MalformedFileError: a line has another layout (names it, what was found and what was
            wanted), or the file is empty.
    """
    rows = _csv_rows if file.suffix == ".csv" else _json_rows
    number = 0
    try:
        for number, cells in rows(file):
            yield _line(file, number, cells)
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error
    if not number:
        raise MalformedFileError(f"{file} holds no example")


def _json_rows(file: Path) -> Iterator[tuple[int, Cells]]:
    with file.open(encoding="utf-8-sig") as stream:
        lines = iter(partial(stream.readline, LONGEST_LINE), "")
        for number, text in enumerate(lines, start=1):
            try:
                value = parse_line(text)
            except NOT_JSON as error:
                if not text.strip():
                    continue
                _refuse_text(file, number, text, error)
            if type(value) is not dict:
                raise _wrong(file, number, f"found {text.strip()[:60]}, wanted an object {{...}}")
            if "\\u" in text:  # UTF-8 itself has neither, an escape may be either
                _check_characters(file, number, value)
            yield number, value


def _refuse_text(file: Path, number: int, text: str, error: Exception) -> NoReturn:
    if len(text) >= LONGEST_LINE:
        message = f"longer than {LONGEST_LINE} characters, wanted one example a line"
        raise _wrong(file, number, message) from error
    column = error.colno if isinstance(error, json.JSONDecodeError) else 1
    message = f"no JSON from column {column} on ({described(error)})"
    raise _wrong(file, number, message) from error


def _check_characters(file: Path, number: int, cells: Cells) -> None:
    """Refuse half a character, which no file, tokenizer or terminal takes, and NUL in a name."""
    for name, value in cells.items():
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if isinstance(text, str) and (found := SURROGATE.search(text)):
                code = f"U+{ord(found[0]):04X}"
                raise _wrong(file, number, f"{name} holds {code}, half of a surrogate pair")
    media = cells.get("media")
    if isinstance(media, str) and "\0" in media:
        raise _wrong(file, number, f"media {shown(media)} holds a NUL character")


def _csv_rows(file: Path) -> Iterator[tuple[int, Cells]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        first = stream.readline(LONGEST_LINE)
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
            raise _wrong(file, reader.line_num, str(error)) from error


def _delimiter(header: str) -> str:
    """The mark that parts a header into columns that every manifest has."""
    for mark in DELIMITERS:
        if set(REQUIRED) <= {name.strip('"') for name in header.strip().split(mark)}:
            return mark
    return DELIMITERS[0]


def _header(file: Path, number: int, names: Sequence[str]) -> list[str]:
    """The names of the columns, "" for those without."""
    found = ["" if _UNNAMED.fullmatch(name) else name for name in names]
    for place, name in enumerate(found):
        if name and name in found[:place]:
            raise _wrong(file, number, f"the column {name!r} is there twice")
    return found


def _cells(file: Path, number: int, names: Sequence[str], row: Sequence[str]) -> Cells:
    """The cells by column. An unnamed first column is the index of a table and is left out."""
    if surplus := [cell for cell in row[len(names) :] if cell.strip()]:
        raise _wrong(file, number, f"more cells than the header has columns: {surplus}")
    for name, cell in zip(names[1:], row[1:], strict=False):
        if not name and cell.strip():
            raise _wrong(file, number, f"the cell {shown(cell)} is in a column without a name")
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
        return parse(cell)
    except NOT_JSON as error:
        message = f"answers begin with '[' but are no JSON list ({described(error)})"
        raise _wrong(file, number, message) from error


def _line(file: Path, number: int, cells: Cells) -> Line:
    if not cells.keys() <= _KNOWN:
        unknown = ", ".join(sorted(map(repr, cells.keys() - _KNOWN)))
        raise _wrong(file, number, f"found {unknown}; known are {', '.join(COLUMNS)}")
    get = cells.get
    name = get("id")
    if type(name) is int:
        name = str(name)
    media = _text(file, number, "media", get("media"))
    name = _text(file, number, "id", name)
    if not (name.strip() and media.strip()):
        missing = [key for key, text in (("id", name), ("media", media)) if not text.strip()]
        raise _wrong(file, number, f"{' and '.join(missing)} missing or empty")
    return Line(
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
    raise _wrong(file, number, f"{name} is {shown(value)}, wanted a string")


def _answers(file: Path, number: int, value: object) -> tuple[str, ...]:
    if type(value) is not list:
        if value is None:
            return ()
        raise _wrong(file, number, f"answers is {shown(value)}, wanted {_WANTED_ANSWERS}")
    found = tuple([answer.strip() if type(answer) is str else "" for answer in value])
    if "" in found:
        message = f"answers holds {shown(value[found.index('')])}, wanted {_WANTED_ANSWERS}"
        raise _wrong(file, number, message)
    return found


def _wrong(file: Path, number: int, message: str) -> MalformedFileError:
    return MalformedFileError(f"{file}, line {number}: {message}")
