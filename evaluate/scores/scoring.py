"""Scores of predictions and references in files, without a model, a store or torch."""

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
from epalm.tasks.types import Example, Prediction
from epalm.untrusted.json_values import JSON_ERRORS, encoding_error, parse_error_reason

LAYOUTS = (
    ("id", "prediction"),
    ("question_id", "answer"),
    ("image_id", "caption"),
    ("questionId", "prediction"),
)
"""Keys of a prediction: ours, and those of the servers of VQA, of COCO and nocaps, and of GQA."""

OFFICIAL_KEYS = (
    *("annotations", "data_subtype", "data_type", "images", "info", "license", "licenses"),
    "task_type",
)
"""Top-level keys of the annotation files of VQA, OK-VQA, COCO captions and nocaps."""

_HEAD_CHARACTERS = 1000


def corpus_scores(scores: Scores) -> dict[str, Score]:
    """The scores, with an interval for those that have one."""
    intervals = all_intervals(scores)
    return {
        name: Score(value, *intervals.get(name, (None, None)))
        for name, value in scores.values.items()
    }


def reference_breakdowns(
    scores: Scores, examples: Sequence[Example]
) -> dict[str, tuple[GroupMean, ...]]:
    """The mean headline score by type of answer and of question, if the references have types."""
    column = scores.per_example[scores.headline]
    tables = {
        "answer type": tuple(group_means(column, [example.answer_type for example in examples])),
        "question type": tuple(
            group_means(column, [example.question_type for example in examples])
        ),
    }
    return {name: groups for name, groups in tables.items() if groups}


def read_predictions(file: Path) -> list[Prediction]:
    """Read the predictions of a file; keys other than those of its layout are ignored.

    Args:
        file: JSONL, or a JSON list, of objects with the keys of one of `LAYOUTS`.

    Raises:
        MissingFileError: the file does not exist, or cannot be read.
        MalformedFileError: an object has another layout.
    """
    predictions = []
    for record, members in _records(file):
        matching = (names for names in LAYOUTS if all(record.has(name) for name in names))
        id_key, text_key = next(matching, LAYOUTS[0])
        name = record.identifier(id_key)
        if text_key not in members:
            record.text(text_key)  # raises
        text = members[text_key]
        if not isinstance(text, str):
            raise record.error(text_key, text, "a string")
        predictions.append(Prediction(name, name, text.strip()))
    return predictions


def read_references(file: Path) -> list[Example]:
    """Read reference answers or captions.

    Args:
        file: published annotation file of VQA, OK-VQA (whose raw answers count), COCO captions or
            nocaps; or JSONL, or a JSON list, of objects {"id", "answers"}. "references" are read if
            there are no "answers", so that our files of predictions can be used as references.
            Optional "question_type" and "answer_type" give scores by group. Instead of "answers",
            or beside them, "label" has the score of each right answer: {"two": 1, "2": 0.9}. Other
            keys are ignored.

    Raises:
        MissingFileError: the file does not exist, or cannot be read.
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
    """Write a JSONL file with the prediction and the scores of each example."""
    texts = {prediction.question_id: prediction.text for prediction in predictions}
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
    return first is not None and first[1] in OFFICIAL_KEYS


def _official(file: Path) -> list[Example]:
    """One example per image with its captions, or per question of VQA."""
    captions: dict[str, list[str]] = {}
    questions: dict[str, Example] = {}
    for record in stream_member(file, "annotations"):
        if record.has("caption"):
            captions.setdefault(record.identifier("image_id"), []).append(record.text("caption"))
        else:
            _add(_question(record), questions, record, "question_id")
    images = (
        Example(image, image, "", tuple(texts), tuple(texts)) for image, texts in captions.items()
    )
    return [*questions.values(), *images]


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
        raise record.error(member, example.question_id, "an id that occurs once")
    seen[example.question_id] = example


@contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig") as stream:
            yield stream
    except OSError as error:
        raise MissingFileError(
            f"{file} cannot be read ({error.strerror}): give a JSONL file"
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error


def _records(file: Path) -> Iterator[tuple[JsonRecord, dict[str, object]]]:
    """Each object of a list or of the lines, once as a checked record and once as it is."""
    with _reading(file) as stream:
        listed = stream.read(_HEAD_CHARACTERS).lstrip().startswith("[")
        stream.seek(0)
        for place, value in _elements(file, stream) if listed else _lines(file, stream):
            yield JsonRecord(value, file, place), cast(dict[str, object], value)


def _elements(file: Path, stream: TextIO) -> Iterator[tuple[str, object]]:
    expected = "one list of objects, or one object per line and no list"
    values = _parsed(stream.read(), str(file), expected)
    for index, value in enumerate(cast(list[object], values)):
        yield f"[{index}]", value


def _lines(file: Path, stream: TextIO) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(stream, start=1):
        if line.strip():
            place = f"line {number}"
            yield place, _parsed(line, f"{file}: {place}", "one object per line")


def _parsed(text: str, place: str, expected: str) -> object:
    try:
        value: object = json.loads(text)
    except JSON_ERRORS as error:
        at = ""
        if isinstance(error, json.JSONDecodeError):
            line = f"line {error.lineno}, " if error.lineno > 1 else ""
            at = f" from {line}column {error.colno} on"
        raise MalformedFileError(
            f"{place}: no JSON{at} ({parse_error_reason(error)}), expected {expected}"
        ) from error
    if reason := encoding_error(value):
        raise MalformedFileError(f"{place} has {reason}, which other programs cannot read")
    return value


def _answers(record: JsonRecord, members: dict[str, object]) -> tuple[str, ...]:
    """The answers unchanged: people leave some empty, and white space counts in some metrics."""
    value = members.get("answers", members.get("references"))
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(answer, str) for answer in value)
    ):
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
