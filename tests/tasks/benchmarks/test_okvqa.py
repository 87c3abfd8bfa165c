from pathlib import Path

import pytest

from epalm.errors import MalformedFileError
from epalm.tasks.task_registry import load_task
from tests.tasks.dataset_writers import TEN_ANSWERS, write_okvqa, write_vqa2


def test_raw_answers_are_used_for_training_and_scoring_instead_of_stemmed_ones(
    tmp_path: Path,
) -> None:
    write_okvqa(tmp_path)
    first = load_task("okvqa").examples("train", tmp_path)[0]
    assert first.key == "COCO_train2014_000000000009.jpg"
    assert first.references == tuple(answer.strip() for answer in TEN_ANSWERS)
    assert first.answers[:3] == ("net", "Net", "the net")
    assert first.weights[:3] == pytest.approx((1.0, 1 / 3, 1 / 3))


def test_validation_and_test_are_the_same_questions(tmp_path: Path) -> None:
    write_okvqa(tmp_path)
    task = load_task("okvqa")
    assert task.examples("val", tmp_path) == task.examples("test", tmp_path)
    assert (task.metric, task.train_split, task.val_split) == ("vqa", "train", "val")


def test_files_of_vqa_v1_which_have_the_same_names_are_refused(tmp_path: Path) -> None:
    write_vqa2(tmp_path)
    for file in tmp_path.glob("v2_*"):
        file.rename(tmp_path / file.name.removeprefix("v2_"))
    with pytest.raises(MalformedFileError, match="expected an object with a string 'raw_answer'"):
        load_task("okvqa").examples("train", tmp_path)
