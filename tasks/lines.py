"""The lines of a manifest file, JSONL or CSV, each checked and knowing its number."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from epalm.errors import MalformedFileError

REQUIRED = ("id", "media")
OPTIONAL = ("prompt", "answers", "question_type", "answer_type")
COLUMNS = REQUIRED + OPTIONAL

ANSWER_SEPARATOR = "|"
"""Between the answers in a CSV cell that holds no JSON list."""

Cells = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Line:
    """One example of a manifest; texts are stripped of outer white space.

    Attributes:
        file: the manifest file.
        number: line number, from 1; in CSV the last line of a record of several lines.
        id: the example's id, unique within its file.
        media: path of the medium, relative to the manifest's folder, as written.
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


def read_lines(file: Path) -> list[Line]:
    """All lines of a manifest file; blank ones are skipped.

    Args:
        file: JSONL, or CSV if its name ends in .csv; UTF-8.

    Returns:
        At least one line.

    Raises:
        MalformedFileError: a line has another layout (names it, what was found and what was
            wanted), or the file is empty.
    """
    rows = _csv_rows if file.suffix == ".csv" else _json_rows
    try:
        lines = [_line(file, number, cells) for number, cells in rows(file)]
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error
    if not lines:
        raise MalformedFileError(f"{file} holds no example")
    return lines


def _json_rows(file: Path) -> Iterator[tuple[int, Cells]]:
    with file.open(encoding="utf-8-sig") as stream:
        for number, text in enumerate(stream, start=1):
            if text.strip():
                yield number, _json_object(file, number, text)


def _json_object(file: Path, number: int, text: str) -> Cells:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        message = f"no JSON from column {error.colno} on ({error.msg})"
        raise _wrong(file, number, message) from error
    if not isinstance(value, dict):
        raise _wrong(file, number, f"found {text.strip()[:60]}, wanted an object {{...}}")
    return value


def _csv_rows(file: Path) -> Iterator[tuple[int, Cells]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True, restkey="", restval="")
        try:
            for row in reader:
                if "" in row:
                    message = f"more cells than the header has columns: {row['']}"
                    raise _wrong(file, reader.line_num, message)
                cells: dict[str, object] = dict(row)
                cells["answers"] = _csv_answers(file, reader.line_num, row.get("answers", ""))
                yield reader.line_num, cells
        except csv.Error as error:
            raise _wrong(file, reader.reader.line_num, str(error)) from error


def _csv_answers(file: Path, number: int, cell: str) -> object:
    if not cell.strip():
        return []
    if not cell.lstrip().startswith("["):
        return cell.split(ANSWER_SEPARATOR)
    try:
        return json.loads(cell)
    except json.JSONDecodeError as error:
        message = f"answers begin with '[' but are no JSON list ({error.msg})"
        raise _wrong(file, number, message) from error


def _line(file: Path, number: int, cells: Cells) -> Line:
    unknown = sorted(cells.keys() - set(COLUMNS))
    if unknown:
        message = f"found {', '.join(map(repr, unknown))}; known are {', '.join(COLUMNS)}"
        raise _wrong(file, number, message)
    texts = {
        name: _text(file, number, name, cells.get(name)) for name in COLUMNS if name != "answers"
    }
    missing = [name for name in REQUIRED if not texts[name]]
    if missing:
        raise _wrong(file, number, f"{' and '.join(missing)} missing or empty")
    answers = _answers(file, number, cells.get("answers"))
    return Line(file=file, number=number, answers=answers, **texts)


def _text(file: Path, number: int, name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "id" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _wrong(file, number, f"{name} is {json.dumps(value)}, wanted a string")
    return value.strip()


def _answers(file: Path, number: int, value: object) -> tuple[str, ...]:
    wanted = "a list of strings, none of them empty"
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong(file, number, f"answers is {json.dumps(value)}, wanted {wanted}")
    for answer in value:
        if not isinstance(answer, str) or not answer.strip():
            raise _wrong(file, number, f"answers holds {json.dumps(answer)}, wanted {wanted}")
    return tuple(answer.strip() for answer in value)


def _wrong(file: Path, number: int, message: str) -> MalformedFileError:
    return MalformedFileError(f"{file}, line {number}: {message}")
