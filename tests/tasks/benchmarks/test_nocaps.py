import json
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, UnknownSplitError
from epalm.tasks.task_registry import load_media, load_task
from tests.tasks.dataset_writers import write_nocaps

VAL = "nocaps/nocaps_val_4500_captions.json"


def test_each_image_is_an_example_with_its_captions_and_its_domain(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    examples = load_task("nocaps-caption").examples("val", tmp_path)
    assert [(example.question_id, example.key, example.question_type) for example in examples] == [
        ("0", "000ea.jpg", "in-domain"),
        ("1", "001ea.jpg", "near-domain"),
        ("2", "002ea.jpg", "out-domain"),
    ]
    assert {example.references for example in examples} == {("A baby is standing.", "Un bébé.")}
    assert {example.prompt for example in examples} == {""}


def test_test_images_have_neither_captions_nor_a_domain(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    (example,) = load_task("nocaps-caption").examples("test", tmp_path)
    assert (example.key, example.references, example.question_type) == ("00ff.jpg", (), "")


def test_images_of_val_and_test_may_be_in_separate_folders(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    images = tmp_path / "nocaps" / "images"
    for split, name in {"val": "001ea.jpg", "test": "00ff.jpg"}.items():
        (images / split).mkdir()
        (images / split / name).write_bytes(b"")
    places = {item.key: item.path for item in load_media("nocaps", tmp_path).items}
    assert places["001ea.jpg"] == images / "val" / "001ea.jpg"
    assert places["00ff.jpg"] == images / "test" / "00ff.jpg"
    assert len(places) == 4


def test_there_is_no_training_split(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    with pytest.raises(UnknownSplitError, match=r"evaluation only\) has no split 'train'"):
        load_task("nocaps-caption").examples("train", tmp_path)


def test_a_val_image_without_a_caption_is_refused(tmp_path: Path) -> None:
    write_nocaps(tmp_path)
    whole = json.loads((tmp_path / VAL).read_text())
    whole["annotations"] = whole["annotations"][:2]
    (tmp_path / VAL).write_text(json.dumps(whole))
    with pytest.raises(MalformedFileError, match="has no caption of image 0"):
        load_task("nocaps-caption").examples("val", tmp_path)
