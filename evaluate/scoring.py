"""From predictions and references in files to scores; no model, no store and no torch."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from epalm.cache.durable import write_file
from epalm.errors import MalformedFileError, MissingFileError
from epalm.evaluate.records import Score
from epalm.metrics.intervals import GroupMean, all_intervals, group_means
from epalm.metrics.registry import Scores
from epalm.tasks.files import JsonRecord
from epalm.tasks.records import Example, Prediction


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
    """The lines of a JSONL file {"id", "prediction"}; other members are passed over.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        MalformedFileError: a line has another layout.
    """
    found = []
    for record, _ in _records(file):
        name = record.identifier("id")
        if not record.has("prediction"):
            record.text("prediction")  # raises
        found.append(Prediction(name, name, record.word("prediction")))
    return found


def read_references(file: Path) -> list[Example]:
    """The lines of a JSONL file {"id", "answers"}; other members are passed over.

    "references" are read where there are no "answers", so that a file of predictions that holds
    them, as ours do, serves as both. "question_type" and "answer_type" may be added, for tables of
    scores by group. In place of
    "answers", or beside them, "label" gives the score of each right answer: {"two": 1, "2": 0.9}.

    Raises:
        MissingFileError: there is no such file, or it cannot be read.
        MalformedFileError: a line has another layout, or repeats an id.
    """
    seen: dict[str, Example] = {}
    for record, members in _records(file):
        example = _example(record, members)
        if example.question_id in seen:
            raise record.wrong("id", example.question_id, "one that no other line has")
        seen[example.question_id] = example
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


def _records(file: Path) -> Iterator[tuple[JsonRecord, dict[str, object]]]:
    """Each line's object, once to be checked and once as it stands."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    value = _parsed(file, number, line)
                    yield JsonRecord(value, file, f"line {number}"), cast(dict[str, object], value)
    except OSError as error:
        raise MissingFileError(
            f"{file} cannot be read ({error.strerror}): name a JSONL file"
        ) from error
    except UnicodeDecodeError as error:
        raise MalformedFileError(f"{file} is not UTF-8: {error}") from error


def _parsed(file: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        message = f"no JSON from column {error.colno} on ({error.msg})"
        raise MalformedFileError(
            f"{file}: line {number}: {message}, wanted one object per line"
        ) from error


def _answers(record: JsonRecord, members: dict[str, object]) -> tuple[str, ...]:
    """As they stand: people leave answers empty, and white space counts in some metrics."""
    value = members.get("answers", members.get("references"))
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise record.wrong("answers", value, "a list of strings, at least one")
    return tuple(value)


def _example(record: JsonRecord, members: dict[str, object]) -> Example:
    label = record.scores("label") if record.has("label") else {}
    references = _answers(record, members) if not label or record.has("answers") else ()
    name = record.identifier("id")
    return Example(
        key=name,
        question_id=name,
        prompt=record.word("prompt"),
        answers=tuple(label) or references,
        references=references or tuple(label),
        weights=tuple(label.values()),
        question_type=record.word("question_type"),
        answer_type=record.word("answer_type"),
    )
