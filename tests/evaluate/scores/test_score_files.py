"""Formats of `epalm-eval score` other than JSONL: those of benchmark servers and annotations."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epalm.errors import MalformedFileError
from epalm.evaluate.scores.scoring import read_predictions, read_references
from epalm.evaluate.scores.submission import FORMATS
from epalm.metrics.metric_registry import load_metric
from tests.evaluate.helpers import call, evaluation


def listed(file: Path, rows: Sequence[object]) -> Path:
    """A file that is one list, over several lines."""
    file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return file


def official(file: Path, annotations: list[dict[str, Any]]) -> Path:
    """An annotation file as COCO and VQA publish them: all in one line."""
    file.write_text(json.dumps({"info": {"year": 2015}, "annotations": annotations}))
    return file


def people(*answers: str, stem: str = "") -> list[dict[str, str | int]]:
    """What people said to a question; of OK-VQA if there is a stem."""
    raw = [{"answer": stem, "raw_answer": one} if stem else {"answer": one} for one in answers]
    return [{"answer_id": row} | one for row, one in enumerate(raw)]


def test_files_for_the_vqa_server_are_scored_with_the_published_annotations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    types = {"question_type": "how many", "answer_type": "number", "image_id": 9}
    predictions = [{"question_id": 90, "answer": "two"}, {"question_id": 91, "answer": "racing"}]
    right = [
        {"question_id": 90, "answers": people(*["2"] * 4, *["Two"] * 6)} | types,
        {"question_id": 91, "answers": people(*["racing"] * 9, "run", stem="race")} | types,
    ]
    one, other = (
        listed(tmp_path / "predictions.json", predictions),
        official(tmp_path / "val.json", right),
    )
    arguments = ("score", one, "--references", other, "--metrics", "vqa", "--json")
    assert call(monkeypatch, *arguments) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["count"], result["scores"]["accuracy"]["value"]) == (2, 1.0)
    assert result["breakdowns"]["question type"][0]["count"] == 2
    assert [example.references[0] for example in read_references(other)] == ["2", "racing"]


def test_the_captions_of_an_image_are_collected_from_published_annotations(tmp_path: Path) -> None:
    rows = [
        {"image_id": 7, "id": 1, "caption": "a dog runs "},
        {"image_id": 5, "id": 2, "caption": "two birds"},
        {"image_id": 7, "id": 3, "caption": "a brown dog"},
    ]
    examples = read_references(official(tmp_path / "captions.json", rows))
    assert [(one.question_id, one.references) for one in examples] == [
        ("7", ("a dog runs", "a brown dog")),
        ("5", ("two birds",)),
    ]
    predictions = read_predictions(listed(tmp_path / "predictions.json", rows[1:]))
    assert [(one.question_id, one.text) for one in predictions] == [
        ("5", "two birds"),
        ("7", "a brown dog"),
    ]


@pytest.mark.parametrize("form", FORMATS)
def test_submission_files_can_be_scored(form: str, tmp_path: Path) -> None:
    made = evaluation(answers=2)
    answered = [replace(one, id=str(row)) for row, one in enumerate(made.predictions)]
    rows = [FORMATS[form](one) for one in answered]
    result = read_predictions(listed(tmp_path / "answers.json", rows))
    assert [(one.question_id, one.text) for one in result] == [("0", "lamp"), ("1", "lamp")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"id": 1, "prediction": null}]', "[0].prediction is null, expected a string"),
        ('[{"id": 1, "prediction": "a"}, 3]', "[1] is 3, expected an object"),
        ('[{"question_id": 1, "answer": 2}]', "[0].answer is 2, expected a string"),
        ('[{"question_id": 1}]', "[0].id is missing"),
        ('[{"id": 1}]\n[{"id": 2}]', "no JSON from line 2, column 1 on (Extra data)"),
    ],
)
def test_the_error_about_a_wrong_list_of_predictions_names_the_element(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "predictions.json").write_text(text)
    with pytest.raises(MalformedFileError) as caught:
        read_predictions(tmp_path / "predictions.json")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"question_id": 9, "answers": []}], r"annotations\[0\].answers is \[\]"),
        (
            [{"question_id": 9, "answers": people("a")}] * 2,
            r"annotations\[1\].question_id is \"9\"",
        ),
    ],
)
def test_the_error_about_a_wrong_annotation_names_the_element(
    tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(MalformedFileError, match=words):
        read_references(official(tmp_path / "val.json", rows))


def test_a_number_and_the_same_number_as_text_are_the_same_id(tmp_path: Path) -> None:
    rows = [{"id": 1, "answers": ["a"]}, {"id": "1", "answers": ["b"]}]
    with pytest.raises(
        MalformedFileError, match=r'\[1\].id is "1", expected an id that occurs once'
    ):
        read_references(listed(tmp_path / "right.json", rows))


def test_without_a_label_gqa_counts_every_answer_as_right(tmp_path: Path) -> None:
    rows = [{"id": 1, "answers": ["dog", "puppy"]}, {"id": 2, "answers": ["cat", "kitten"]}]
    predictions = [{"id": 1, "prediction": "Puppy."}, {"id": 2, "prediction": "lamp"}]
    right = read_references(listed(tmp_path / "right.json", rows))
    scores = load_metric("gqa")(
        read_predictions(listed(tmp_path / "predictions.json", predictions)), right
    )
    assert scores.per_example["accuracy"].tolist() == [1.0, 0.0]
