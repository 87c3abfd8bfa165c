import json
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.readers.vqa_format import soft_scores
from epalm.tasks.task_registry import load_media, load_task
from epalm.tasks.types import Example
from tests.tasks.annotation_files import (
    annotation,
    karpathy_entry,
    question,
    write_karpathy,
    write_vqa,
)
from tests.tasks.dataset_writers import TEN_ANSWERS, write_vqa2_tests, write_vqa2_vlt5

TRAIN = "COCO_train2014_000000000009.jpg"
RESTVAL = "COCO_val2014_000000000042.jpg"
VAL = "COCO_val2014_000000000073.jpg"
TEST = "COCO_val2014_000000391895.jpg"


@pytest.fixture
def vqa(tmp_path: Path) -> Path:
    write_karpathy(
        tmp_path,
        "coco",
        [
            karpathy_entry(VAL, "val", filepath="val2014"),
            karpathy_entry(TEST, "test", filepath="val2014"),
            karpathy_entry(RESTVAL, "restval", filepath="val2014"),
            karpathy_entry(TRAIN, "train", filepath="train2014"),
        ],
    )
    write_vqa(
        tmp_path,
        "train2014",
        [question(9, 9000, "What is this?"), question(9, 9001, "What is this?")],
        [annotation(9, 9001, ["yes"] * 10), annotation(9, 9000, TEN_ANSWERS)],
    )
    write_vqa(
        tmp_path,
        "val2014",
        [
            question(391895, 391895000, " Where is he? "),
            question(42, 42000, "Is it cold?"),
            question("73", "73000", "What color?"),
        ],
        [
            annotation(42, 42000, ["no"] * 10),
            annotation("73", "73000", ["red"] * 10),
            annotation(391895, 391895000, ["street"] * 10),
        ],
    )
    return tmp_path


def read(root: Path, split: str) -> list[Example]:
    return load_task("vqa2").examples(split, root)


def ids(root: Path, split: str) -> list[tuple[str, str]]:
    return [(example.key, example.question_id) for example in read(root, split)]


def test_karpathy_splits_assign_each_question_by_its_image(vqa: Path) -> None:
    assert ids(vqa, "karpathy_train") == [(TRAIN, "9000"), (TRAIN, "9001"), (RESTVAL, "42000")]
    assert ids(vqa, "karpathy_val") == [(VAL, "73000")]
    assert ids(vqa, "karpathy_test") == [(TEST, "391895000")]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_short_names_mean_the_karpathy_splits(vqa: Path, split: str) -> None:
    assert read(vqa, split) == read(vqa, f"karpathy_{split}")


def test_standard_splits_are_the_official_files_and_need_no_karpathy_file(vqa: Path) -> None:
    (vqa / "dataset_coco.json").unlink()
    assert ids(vqa, "standard_train") == [(TRAIN, "9000"), (TRAIN, "9001")]
    assert ids(vqa, "standard_val") == [(TEST, "391895000"), (RESTVAL, "42000"), (VAL, "73000")]


def test_validation_needs_no_training_file(vqa: Path) -> None:
    (vqa / "v2_OpenEnded_mscoco_train2014_questions.json").unlink()
    (vqa / "v2_mscoco_train2014_annotations.json").unlink()
    assert ids(vqa, "karpathy_val") == [(VAL, "73000")]


def test_training_weights_distinct_answers_by_their_annotators(vqa: Path) -> None:
    example = read(vqa, "karpathy_train")[0]
    assert example.answers == ("net", "Net", "the net", "mesh", "", "café")
    assert example.weights == pytest.approx((1.0, 1 / 3, 1 / 3, 2 / 3, 1 / 3, 1 / 3))


def test_the_references_are_all_ten_answers_as_published(vqa: Path) -> None:
    example = read(vqa, "karpathy_train")[0]
    assert example.references == tuple(answer.strip() for answer in TEN_ANSWERS)
    assert (example.question_type, example.answer_type) == ("what is", "other")


def test_the_prompt_is_the_question_stripped_of_whitespace(vqa: Path) -> None:
    assert read(vqa, "karpathy_test")[0].prompt == "Where is he?"


def test_three_annotators_are_enough_for_the_full_score() -> None:
    answers = ["a"] * 4 + ["b"] * 3 + ["c"] * 2 + ["d"]
    assert soft_scores(answers) == pytest.approx({"a": 1.0, "b": 1.0, "c": 2 / 3, "d": 1 / 3})


def test_training_and_validation_use_karpathy_splits_by_default() -> None:
    task = load_task("vqa2")
    assert (task.train_split, task.val_split) == ("karpathy_train", "karpathy_val")
    assert (task.kind, task.metric) == ("qa", "vqa")


@pytest.mark.parametrize("folder", ["vqa2", "coco"])
def test_files_may_be_in_a_folder_below_the_root(vqa: Path, folder: str) -> None:
    below = vqa / folder
    below.mkdir()
    for file in vqa.glob("v2_*.json"):
        file.rename(below / file.name)
    assert len(read(vqa, "karpathy_train")) == 3


def test_an_unknown_split_is_refused_with_the_known_ones(vqa: Path) -> None:
    with pytest.raises(UnknownSplitError, match=r"vqa2 has no split 'test2014'.*standard_val"):
        read(vqa, "test2014")


def test_a_missing_file_is_reported_with_the_searched_paths_and_its_source(vqa: Path) -> None:
    (vqa / "v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(MissingFileError) as caught:
        read(vqa, "karpathy_val")
    for folder in (vqa, vqa / "vqa2", vqa / "coco"):
        assert str(folder / "v2_mscoco_val2014_annotations.json") in str(caught.value)
    assert "visualqa.org" in str(caught.value)


def test_a_question_without_annotation_is_refused(vqa: Path) -> None:
    write_vqa(vqa, "train2014", [question(9, 1, "Why?")], [annotation(9, 2, ["x"])])
    with pytest.raises(
        MalformedFileError, match=r"train2014_annotations.json has no annotation of question 1"
    ):
        read(vqa, "standard_train")


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        ([1, 1], [1], "train2014_questions.json: duplicate id 1"),
        ([1], [1, 1], r'annotations\[1\].question_id is "1", expected an id without another'),
    ],
)
def test_a_duplicate_id_is_refused(
    vqa: Path, questions: list[int], annotations: list[int], message: str
) -> None:
    asked = [question(9, number, "Why?") for number in questions]
    output = [annotation(9, number, ["because"]) for number in annotations]
    write_vqa(vqa, "train2014", asked, output)
    with pytest.raises(MalformedFileError, match=message):
        read(vqa, "standard_train")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"answers": []}, r"annotations\[0\].answers is \[\], expected at least one answer"),
        ({"answers": [{"answer": 3}]}, r'annotations\[0\].answers\[0\] is {"answer": 3}, expected'),
        ({"answers": None}, r"annotations\[0\].answers is null, expected a list"),
        ({"answer_type": None}, r"annotations\[0\].answer_type is null, expected a string"),
    ],
)
def test_a_malformed_annotation_is_refused_with_its_position(
    vqa: Path, spoil: dict[str, object], message: str
) -> None:
    write_vqa(vqa, "train2014", [question(9, 1, "Why?")], [annotation(9, 1, ["x"]) | spoil])
    with pytest.raises(MalformedFileError, match=message):
        read(vqa, "standard_train")


def test_an_image_id_that_is_not_a_number_is_refused(vqa: Path) -> None:
    write_vqa(vqa, "train2014", [question("n161313", 1, "Why?")], [annotation(9, 1, ["x"])])
    with pytest.raises(MalformedFileError, match=r'questions\[0\].image_id is "n161313"'):
        read(vqa, "standard_train")


def test_an_image_of_an_unknown_folder_is_refused(vqa: Path) -> None:
    file = vqa / "dataset_coco.json"
    entries = json.loads(file.read_text())
    del entries["images"][3]["filepath"]
    file.write_text(json.dumps(entries))
    with pytest.raises(MalformedFileError, match=r"images\[3\].filepath is \"\", expected train"):
        read(vqa, "karpathy_train")


def test_questions_for_submission_have_no_answers_and_their_own_images(tmp_path: Path) -> None:
    write_vqa2_tests(tmp_path)
    first, second = read(tmp_path, "test-dev2015")
    assert (first.key, first.question_id) == ("COCO_test2015_000000000001.jpg", "1000")
    assert (second.prompt, second.answers, second.references) == ("Pourquoi ?", (), ())
    media = load_media("coco-test2015", tmp_path)
    assert [item.path for item in media.items] == [
        tmp_path / "test2015" / example.key for example in (first, second)
    ]
    assert media.tasks == ("vqa2",)


def test_vlt5_lists_give_scores_as_weights_and_human_answers_as_references(
    tmp_path: Path,
) -> None:
    write_vqa2_vlt5(tmp_path)
    first, second = read(tmp_path, "train")
    assert (first.key, first.question_id) == ("COCO_train2014_000000000009.jpg", "9000")
    assert (first.answers, first.weights) == (("net", "mesh"), (1.0, 0.6))
    assert first.references == second.references == tuple(answer.strip() for answer in TEN_ANSWERS)
    assert (first.question_type, first.answer_type) == ("what is", "other")
    assert second.answers == ("net", "Net", "the net", "mesh", "", "café")


def test_vlt5_lists_without_human_answers_need_the_official_annotations(tmp_path: Path) -> None:
    write_vqa2_vlt5(tmp_path)
    file = tmp_path / "vqa" / "karpathy_val.json"
    (entry,) = json.loads(file.read_text())
    del entry["answers"]
    file.write_text(json.dumps([entry]))
    with pytest.raises(MissingFileError, match=r"v2_mscoco_val2014_annotations.json was not found"):
        read(tmp_path, "val")
    output = {"annotations": [annotation(73, 73000, ["blue"] * 10)]}
    (tmp_path / "v2_mscoco_val2014_annotations.json").write_text(json.dumps(output))
    (example,) = read(tmp_path, "val")
    assert (example.answers, example.references) == (("red",), ("blue",) * 10)


def test_official_files_take_precedence_over_vlt5_lists(vqa: Path) -> None:
    before = read(vqa, "standard_train")
    (vqa / "other").mkdir()
    write_vqa2_vlt5(vqa / "other")
    (vqa / "other" / "vqa").rename(vqa / "vqa")
    assert read(vqa, "standard_train") == before


def test_a_vlt5_list_about_other_images_is_refused(tmp_path: Path) -> None:
    write_vqa2_vlt5(tmp_path)
    file = tmp_path / "vqa" / "karpathy_val.json"
    file.write_text(file.read_text().replace("COCO_val2014_", "VG_"))
    with pytest.raises(MalformedFileError, match=r"\[0\].img_id is \"VG_000000000073\", expected"):
        read(tmp_path, "val")
