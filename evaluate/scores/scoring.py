"""From predictions and references in files to scores; no model, no store and no torch."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from sys import intern
from typing import TextIO, cast

from epalm.atomic_write import write_file
from epalm.errors import MalformedFileError, MissingFileError
from epalm.evaluate.scores.eval_results import Score
from epalm.metrics.intervals import GroupMean, all_intervals, group_means
from epalm.metrics.metric_registry import Scores
from epalm.tasks.readers.json_record import JsonRecord
from epalm.tasks.readers.json_stream import stream_member
from epalm.tasks.readers.json_values import (
    JSON_ERRORS,
    encoding_error,
    parse_error_reason,
    parse_json,
)
from epalm.tasks.types import Example, Prediction

LAYOUTS = (
    ("id", "prediction"),
    ("question_id", "answer"),
    ("image_id", "caption"),
    ("questionId", "prediction"),
)
"""Members of a prediction: ours, and those that the servers of VQA, COCO and nocaps, GQA take."""

OFFICIAL_MEMBERS = (
    *("annotations", "data_subtype", "data_type", "images", "info", "license", "licenses"),
    "task_type",
)
"""Outermost members of the annotation files of VQA, OK-VQA, COCO's captions and nocaps."""

_HEAD_CHARACTERS = 1000


def corpus_scores(scores: Scores) -> dict[str, Score]:
    """The scores, with the intervals of those that have one."""
    intervals = all_intervals(scores)
    return {
        name: Score(value, *intervals.get(name, (None, None)))
        for name, value in scores.values.items()
    }


def given_breakdowns(
    scores: Scores, examples: Sequence[Example]
) -> dict[str, tuple[GroupMean, ...]]:
    """The headline's mean by type of answer and of question, where the references tell types."""
    column = scores.per_example[scores.headline]
    tables = {
        "answer type": tuple(group_means(column, [one.answer_type for one in examples])),
        "question type": tuple(group_means(column, [one.question_type for one in examples])),
    }
    return {name: groups for name, groups in tables.items() if groups}


def read_predictions(file: Path) -> list[Prediction]:
    """The predictions of a file; members beside those of its layout are passed over.

    Args:
        file: JSONL, or a JSON list, of objects with the members of one of `LAYOUTS`.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        MalformedFileError: an object has another layout.
    """
    found = []
    for record, members in _records(file):
        known = (names for names in LAYOUTS if all(record.has(name) for name in names))
        name, said = next(known, LAYOUTS[0])
        one = record.identifier(name)
        if said not in members:
            record.text(said)  # raises
        text = members[said]
        if not isinstance(text, str):
            raise record.error(said, text, "a string")
        found.append(Prediction(one, one, text.strip()))
    return found


def read_references(file: Path) -> list[Example]:
    """What predictions are scored against.

    Args:
        file: an annotation file of VQA, OK-VQA (of which the raw answers count), COCO's captions or
            nocaps as published, or JSONL, or a JSON list, of objects {"id", "answers"}.
            "references" are read where there are no "answers", so that a file of predictions that
            holds them, as ours do, serves as both. "question_type" and "answer_type" may be added,
            for tables of scores by group. In place of "answers", or beside them, "label" gives the
            score of each right answer: {"two": 1, "2": 0.9}. Other members are passed over.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        MalformedFileError: an object has another layout, or repeats an id.
    """
    if _is_official(file):
        return _official(file)
    seen: dict[str, Example] = {}
    for record, members in _records(file):
        _add(_example(record, members), seen, record, "id")
    return list(seen.values())


def write_scored(
    file: Path, predictions: Sequence[Prediction], examples: Sequence[Example], scores: Scores
) -> None:
    """Write a JSONL file with every example, its prediction and the scores of that alone."""
    texts = {one.question_id: one.text for one in predictions}
    lines = [
        {
            "id": example.question_id,
            "prediction": texts[example.question_id],
            "answers": example.references,
            "scores": {name: float(column[row]) for name, column in scores.per_example.items()},
        }
        for row, example in enumerate(examples)
    ]
    write_file(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _is_official(file: Path) -> bool:
    with _reading(file) as stream:
        first = re.match(r'\s*\{\s*"(\w+)"', stream.read(_HEAD_CHARACTERS))
    return first is not None and first[1] in OFFICIAL_MEMBERS


def _official(file: Path) -> list[Example]:
    """A photo's captions are one example; of VQA, each question is one."""
    captions: dict[str, list[str]] = {}
    questions: dict[str, Example] = {}
    for record in stream_member(file, "annotations"):
        if record.has("caption"):
            said = captions.setdefault(record.identifier("image_id"), [])
            said.append(record.text("caption"))
        else:
            _add(_question(record), questions, record, "question_id")
    photos = (Example(one, one, "", tuple(said), tuple(said)) for one, said in captions.items())
    return [*questions.values(), *photos]


def _question(record: JsonRecord) -> Example:
    first = next(record.records("answers"), None)
    if first is None:
        raise record.error("answers", [], "at least one answer")
    member = "raw_answer" if first.has("raw_answer") else "answer"
    people = tuple(map(intern, record.member_texts("answers", member)))
    name = record.identifier("question_id")
    types = (
        intern(record.optional_text("question_type")),
        intern(record.optional_text("answer_type")),
    )
    return Example(name, name, "", people, people, (), *types)


def _add(example: Example, seen: dict[str, Example], record: JsonRecord, member: str) -> None:
    if example.question_id in seen:
        raise record.error(member, example.question_id, "one that stands there once")
    seen[example.question_id] = example


@contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            yield stream
    except OSError as error:
        raise MissingFileError(
            f"{file} cannot be read ({error.strerror}): name a JSONL file"
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error


def _records(file: Path) -> Iterator[tuple[JsonRecord, dict[str, object]]]:
    """Each object of a list or of the lines, once to be checked and once as it stands."""
    with _reading(file) as stream:
        listed = stream.read(_HEAD_CHARACTERS).lstrip().startswith("[")
        stream.seek(0)
        for place, value in _elements(file, stream) if listed else _lines(file, stream):
            yield JsonRecord(value, file, place), cast(dict[str, object], value)


def _elements(file: Path, stream: TextIO) -> Iterator[tuple[str, object]]:
    wanted = "one list of objects, or one object per line and no list"
    values = _parsed(stream.read(), str(file), wanted)
    for index, value in enumerate(cast(list[object], values)):
        yield f"[{index}]", value


def _lines(file: Path, stream: TextIO) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            place = f"line {number}"
            yield place, _parsed(line, f"{file}: {place}", "one object per line")


def _parsed(text: str, place: str, wanted: str) -> object:
    try:
        value: object = parse_json(text)
    except JSON_ERRORS as error:
        at = ""
        if isinstance(error, json.JSONDecodeError):
            line = f"line {error.lineno}, " if error.lineno > 1 else ""
            at = f" from {line}column {error.colno} on"
        raise MalformedFileError(
            f"{place}: no JSON{at} ({parse_error_reason(error)}), wanted {wanted}"
        ) from error
    if reason := encoding_error(value):
        raise MalformedFileError(f"{place} holds {reason}: no file or program takes that")
    return value


def _answers(record: JsonRecord, members: dict[str, object]) -> tuple[str, ...]:
    """As they stand: people leave answers empty, and white space counts in some metrics."""
    value = members.get("answers", members.get("references"))
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise record.error("answers", value, "a list of strings, at least one")
    return tuple(value)


def _example(record: JsonRecord, members: dict[str, object]) -> Example:
    label = record.scores("label") if record.has("label") else {}
    references = _answers(record, members) if not label or record.has("answers") else ()
    name = record.identifier("id")
    return Example(
        key=name,
        question_id=name,
        prompt=record.optional_text("prompt"),
        answers=tuple(label) or references,
        references=references or tuple(label),
        weights=tuple(label.values()),
        question_type=record.optional_text("question_type"),
        answer_type=record.optional_text("answer_type"),
    )
