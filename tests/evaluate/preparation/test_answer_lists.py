"""Lists of answers: the most frequent ones of training, and text files."""

from pathlib import Path

import pytest

from epalm.errors import DataError, MalformedFileError, MissingFileError
from epalm.evaluate.preparation.answer_lists import frequent_answers, read_answers
from tests.evaluate.helpers import answered


def test_the_most_frequent_answers_are_those_that_training_draws_most_often() -> None:
    examples = [
        answered("red", "blue", weights=(3.0, 1.0)),
        answered("green"),
        answered("blue"),
        answered("red", "two"),
        answered("never", weights=(0.0,)),
    ]
    assert frequent_answers(examples, 3) == ["blue", "red", "green"]
    assert frequent_answers(examples, 9) == ["blue", "red", "green", "two"]
    with pytest.raises(DataError, match="no answers to rank"):
        frequent_answers(examples[-1:], 3)


def test_a_file_of_answers_has_one_on_each_line(tmp_path: Path) -> None:
    file = tmp_path / "answers.txt"
    file.write_text(" red lamp \n\ntwo\n")
    assert read_answers(file) == ["red lamp", "two"]
    file.write_text("\n")
    with pytest.raises(MalformedFileError, match="has no answer"):
        read_answers(file)
    file.write_bytes("café".encode("latin-1"))
    with pytest.raises(MalformedFileError, match="is not UTF-8"):
        read_answers(file)
    with pytest.raises(MissingFileError, match="top-N"):
        read_answers(tmp_path / "absent.txt")
