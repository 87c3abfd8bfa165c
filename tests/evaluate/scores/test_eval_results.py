"""The files of an evaluation."""

import errno
import json
import os
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, MissingFileError
from epalm.evaluate.scores.eval_results import read_evaluation, write_evaluation
from tests.evaluate.helpers import evaluation


def test_an_evaluation_is_read_from_its_files_unchanged(tmp_path: Path) -> None:
    written = evaluation(text='naïve\u2028\n"lamp" 🐶')
    write_evaluation(tmp_path / "eval" / "val", written)
    assert read_evaluation(tmp_path / "eval" / "val") == written


def test_an_evaluation_overwrites_the_previous_one(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation(answers=6))
    write_evaluation(tmp_path, evaluation(answers=2))
    assert len(read_evaluation(tmp_path).predictions) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["predictions.jsonl", "scores.json"]


def test_each_prediction_is_a_line_with_its_question_references_and_scores(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[1]) == {
        "id": "q1",
        "key": "b.png",
        "prompt": "what is on the desk?",
        "prediction": "lamp",
        "references": ["lamp", "lamp", "cup"],
        "scores": {"exact_match": 1.0},
        "question_type": "what is",
        "answer_type": "",
        "log_probability": -0.5,
        "tokens": 2,
    }


def test_files_of_earlier_versions_can_be_read(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    new = ("question_type", "answer_type", "log_probability", "tokens")
    lines = (tmp_path / "predictions.jsonl").read_text().splitlines()
    old = [{k: v for k, v in json.loads(line).items() if k not in new} for line in lines]
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in old))
    summary = json.loads((tmp_path / "scores.json").read_text())
    for name in ("features", "data_root", "device", "memory", "device_memory", "split_size"):
        del summary[name]
    (tmp_path / "scores.json").write_text(json.dumps(summary))
    result = read_evaluation(tmp_path)
    assert [one.log_probability for one in result.predictions] == [None] * 6
    assert (result.features, result.split_size) == ("", 0)


def test_the_scores_file_counts_scored_and_skipped_examples(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["counts"] == {"scored": 6, "skipped": 1}
    assert scores["scores"]["exact_match"] == {"value": 0.5, "low": 0.25, "high": 0.75}
    assert scores["scores"]["other"] == {"value": 0.125, "low": None, "high": None}


def test_the_error_about_a_missing_evaluation_has_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"scores\.json: No such file.*epalm-eval"):
        read_evaluation(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(MissingFileError, match=r"scores\.json: Not a directory.*epalm-eval"):
        read_evaluation(tmp_path / "file")


@pytest.mark.parametrize("damaged", ["{", "[]", "{}", '{"run": 1}'])
def test_a_damaged_scores_file_is_refused(tmp_path: Path, damaged: str) -> None:
    write_evaluation(tmp_path, evaluation())
    (tmp_path / "scores.json").write_text(damaged)
    with pytest.raises(MalformedFileError, match="cannot be read"):
        read_evaluation(tmp_path)


def test_a_prediction_without_its_references_is_refused(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation(answers=1))
    file = tmp_path / "predictions.jsonl"
    line = json.loads(file.read_text())
    del line["references"]
    file.write_text(json.dumps(line) + "\n")
    with pytest.raises(MalformedFileError, match=r"predictions\.jsonl: line 1\.references"):
        read_evaluation(tmp_path)


def test_text_that_is_not_valid_utf_8_is_written_and_read_back(tmp_path: Path) -> None:
    written = evaluation(text="half a character: \ud83d")
    write_evaluation(tmp_path, written)
    assert read_evaluation(tmp_path) == written


def test_a_file_of_a_later_version_can_be_read(tmp_path: Path) -> None:
    write_evaluation(tmp_path, evaluation())
    summary = json.loads((tmp_path / "scores.json").read_text())
    (tmp_path / "scores.json").write_text(json.dumps(summary | {"later": [1, 2]}))
    assert read_evaluation(tmp_path) == evaluation()


def test_a_full_disk_leaves_the_previous_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_evaluation(tmp_path, evaluation(answers=2))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*predictions\.jsonl'"):
        write_evaluation(tmp_path, evaluation())
    assert [file.name for file in tmp_path.iterdir()] == ["predictions.jsonl"]
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 2
