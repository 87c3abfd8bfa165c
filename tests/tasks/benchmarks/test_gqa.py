import logging
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.tasks.task_registry import load_media, load_task
from epalm.tasks.types import Example
from tests.tasks.dataset_writers import write_gqa, write_gqa_vlt5, write_json


def read(root: Path, split: str) -> list[Example]:
    return load_task("gqa").examples(split, root)


def test_official_questions_have_one_answer_and_their_groups(tmp_path: Path) -> None:
    write_gqa(tmp_path)
    first, second, third = read(tmp_path, "train")
    assert (first.key, first.question_id) == ("2354786.jpg", "02930152")
    assert (first.prompt, first.answers, first.references) == (
        "Is the sky dark?",
        ("yes",),
        ("yes",),
    )
    assert (first.question_type, first.answer_type) == ("verify", "attr")
    assert (second.key, second.prompt) == (first.key, first.prompt)
    assert (third.key, third.prompt) == ("n161313.jpg", "Is the café open?")


def test_predictions_are_scored_by_the_label_after_normalization() -> None:
    task = load_task("gqa")
    assert (task.kind, task.metric) == ("qa", "label")
    assert (task.train_split, task.val_split) == ("train", "val")


def test_valid_is_val_and_test_has_no_answers(tmp_path: Path) -> None:
    write_gqa(tmp_path)
    assert read(tmp_path, "valid") == read(tmp_path, "val")
    (example,) = read(tmp_path, "test")
    assert (example.key, example.answers, example.references) == ("n10.jpg", (), ())


def test_the_dataset_has_each_image_once_in_order_of_the_splits(tmp_path: Path) -> None:
    write_gqa(tmp_path)
    media = load_media("gqa", tmp_path)
    names = ["2354786.jpg", "n161313.jpg", "77.jpg", "n9.jpg", "n10.jpg"]
    assert [item.key for item in media.items] == names
    assert media.items[0].path == tmp_path / "gqa" / "images" / "2354786.jpg"
    assert media.root == tmp_path


def test_missing_splits_are_logged_except_the_one_without_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_gqa(tmp_path)
    for name in ("test", "testdev"):
        (tmp_path / "gqa" / f"{name}_balanced_questions.json").unlink()
    with caplog.at_level(logging.WARNING):
        load_media("gqa", tmp_path)
    assert caplog.messages == [
        "gqa: using only the media listed in train_balanced_questions.json, "
        "val_balanced_questions.json; not found: testdev"
    ]


def test_the_data_root_may_be_the_folder_of_the_files_itself(tmp_path: Path) -> None:
    write_gqa(tmp_path)
    media = load_media("gqa", tmp_path / "gqa")
    assert media.items[0].path == tmp_path / "gqa" / "images" / "2354786.jpg"
    assert read(tmp_path / "gqa", "testdev")


def test_an_image_is_read_from_the_folder_that_contains_it(tmp_path: Path) -> None:
    write_gqa_vlt5(tmp_path)
    (tmp_path / "VG" / "VG_100K_2").mkdir()
    places = {
        "2354786.jpg": tmp_path / "VG" / "VG_100K" / "2354786.jpg",
        "77.jpg": tmp_path / "VG" / "VG_100K_2" / "77.jpg",
        "n9.jpg": tmp_path / "GQA" / "images" / "n9.jpg",
    }
    for file in places.values():
        file.write_bytes(b"")
    assert {item.key: item.path for item in load_media("gqa", tmp_path).items} == places


def test_official_files_take_precedence_over_vlt5_lists(tmp_path: Path) -> None:
    write_gqa_vlt5(tmp_path)
    assert [example.weights for example in read(tmp_path, "train")] == [(1.0,), (1.0,)]
    write_gqa(tmp_path)
    assert read(tmp_path, "train")[0].question_id == "02930152"


def test_a_question_without_answer_in_a_list_is_refused(tmp_path: Path) -> None:
    write_gqa_vlt5(tmp_path)
    entry = {"img_id": "1", "question_id": 1, "sent": "Why?", "label": {}}
    write_json(tmp_path / "GQA" / "train.json", [entry])
    with pytest.raises(MalformedFileError, match=r"\[0\].label is {}, expected an answer"):
        read(tmp_path, "train")


def test_a_duplicate_id_is_refused(tmp_path: Path) -> None:
    write_gqa(tmp_path)
    file = tmp_path / "gqa" / "val_balanced_questions.json"
    inside = file.read_text()[1:-1]
    file.write_text(f"{{{inside}, {inside}}}")
    with pytest.raises(MalformedFileError, match="duplicate id 1"):
        read(tmp_path, "val")
