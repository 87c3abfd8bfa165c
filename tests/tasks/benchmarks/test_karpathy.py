from collections import Counter
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.task_registry import load_media, load_task
from tests.tasks.annotation_files import karpathy_entry, shared_data, write_karpathy

TRAIN = "COCO_train2014_000000000009.jpg"
RESTVAL = "COCO_val2014_000000000042.jpg"
VAL = "COCO_val2014_000000000073.jpg"
TEST = "COCO_val2014_000000391895.jpg"


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_karpathy(
        tmp_path,
        "coco",
        [
            karpathy_entry(TEST, "test", "A man on a bike.", "Un café.\n", filepath="val2014"),
            karpathy_entry(RESTVAL, "restval", "Skis.", filepath="val2014", first_sentid=10),
            karpathy_entry(
                VAL, "val", "A bike.", "A red bike.", filepath="val2014", first_sentid=20
            ),
            karpathy_entry(
                TRAIN, "train", " A tray.", "Food.", filepath="train2014", first_sentid=30
            ),
        ],
    )
    for folder in ("train2014", "val2014"):
        (tmp_path / folder).mkdir()
    return tmp_path


def test_every_coco_image_is_listed_once_by_file_name_in_file_order(coco: Path) -> None:
    media = load_media("coco", coco)
    assert [item.key for item in media.items] == [TEST, RESTVAL, VAL, TRAIN]
    assert media.items[0].path == coco / "val2014" / TEST
    assert media.items[3].path == coco / "train2014" / TRAIN
    assert {item.modality for item in media.items} == {"image"}
    assert media.tasks == ("vqa2", "coco-caption", "okvqa")
    assert (media.name, media.root) == ("coco", coco)


def test_images_may_also_be_in_a_folder_images(coco: Path) -> None:
    (coco / "images").mkdir()
    for folder in ("train2014", "val2014"):
        (coco / folder).rename(coco / "images" / folder)
    assert load_media("coco", coco).items[0].path == coco / "images" / "val2014" / TEST


def test_a_folder_named_after_the_dataset_is_searched(coco: Path) -> None:
    below = coco.rename(coco.with_name("coco"))
    media = load_media("coco", below.parent)
    assert media.items[0].path == below / "val2014" / TEST
    assert media.root == below.parent
    assert len(load_task("coco-caption").examples("train", below.parent)) == 3


def test_training_has_one_example_per_caption_with_restval_among_them(coco: Path) -> None:
    examples = load_task("coco-caption").examples("train", coco)
    assert [(example.key, example.question_id, example.answers) for example in examples] == [
        (RESTVAL, "10", ("Skis.",)),
        (TRAIN, "30", ("A tray.",)),
        (TRAIN, "31", ("Food.",)),
    ]
    assert {example.prompt for example in examples} == {""}


def test_the_test_split_has_one_example_per_image_with_all_its_captions(coco: Path) -> None:
    (example,) = load_task("coco-caption").examples("test", coco)
    assert (example.key, example.question_id) == (TEST, TEST)
    assert example.references == ("A man on a bike.", "Un café.")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_prefix_karpathy_of_a_split_is_optional(coco: Path, split: str) -> None:
    task = load_task("coco-caption")
    assert task.examples(f"karpathy_{split}", coco) == task.examples(split, coco)


@pytest.mark.parametrize("folder", ["images", "Images", "flickr30k_images"])
def test_flickr_images_are_found_in_each_usual_folder(tmp_path: Path, folder: str) -> None:
    write_karpathy(tmp_path, "flickr30k", [karpathy_entry("7.jpg", "train", "A dog.")])
    (tmp_path / folder).mkdir()
    media = load_media("flickr30k", tmp_path)
    assert media.items[0].path == tmp_path / folder / "7.jpg"
    assert media.tasks == ("flickr30k-caption",)


def test_an_unknown_split_is_refused_with_the_known_ones(coco: Path) -> None:
    with pytest.raises(UnknownSplitError, match=r"'valid'.* train, val, test, karpathy_train"):
        load_task("coco-caption").examples("valid", coco)


def test_a_split_without_images_in_the_file_is_refused(tmp_path: Path) -> None:
    write_karpathy(tmp_path, "flickr8k", [karpathy_entry("7.jpg", "train", "A dog.")])
    with pytest.raises(UnknownSplitError, match="no image of test, only of train"):
        load_task("flickr8k-caption").examples("test", tmp_path)


def test_a_missing_file_is_reported_with_the_searched_paths_and_its_source(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        load_media("coco", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "dataset_coco.json") in message
    assert str(tmp_path / "coco" / "dataset_coco.json") in message
    assert "Karpathy" in message
    assert "--data-root" in message


def test_missing_images_are_reported_with_the_searched_folders(coco: Path) -> None:
    (coco / "val2014").rmdir()
    with pytest.raises(MissingFileError, match="COCO images") as caught:
        load_media("coco", coco)
    for place in (coco / "val2014", coco / "images" / "val2014", coco / "coco" / "val2014"):
        assert str(place) in str(caught.value)


def test_a_truncated_file_is_refused_with_the_position_of_its_end(tmp_path: Path) -> None:
    file = write_karpathy(tmp_path, "flickr8k", [karpathy_entry("7.jpg", "train", "A dog.")])
    file.write_text('{"images": [\n {"filename": "7.j')
    with pytest.raises(MalformedFileError, match=r"dataset_flickr8k.json: invalid JSON at line 2"):
        load_task("flickr8k-caption").examples("train", tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_flickr8k.json").write_bytes(b'{"images": "\xff"}')
    with pytest.raises(MalformedFileError, match="byte 12 is not UTF-8"):
        load_task("flickr8k-caption").examples("train", tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            {"split": "dev"},
            r'images\[1\].split is "dev", expected one of train, restval, val, t',
        ),
        ({"split": None}, r"images\[1\].split is null, expected a string"),
        ({"filename": 7}, r"images\[1\].filename is 7, expected a string"),
        ({"sentences": "A dog."}, r'images\[1\].sentences is "A dog.", expected a list'),
        ({"sentences": ["A dog."]}, r'images\[1\].sentences\[0\] is "A dog.", expected an object'),
        ({"sentences": [{"sentid": 1}]}, r"images\[1\].sentences\[0\].raw is missing"),
        (
            {"sentences": [{"raw": " ", "sentid": 1}]},
            r"raw is \" \", expected a string that is",
        ),
        (
            {"sentences": [{"raw": "A dog.", "sentid": True}]},
            r"sentid is true, expected an int",
        ),
        ({"sentences": [{"raw": "A dog.", "sentid": 0}]}, "duplicate id 0"),
    ],
)
def test_a_malformed_entry_is_refused_with_its_position(
    tmp_path: Path, spoil: dict[str, object], message: str
) -> None:
    images = [
        karpathy_entry("7.jpg", "train", "A dog."),
        karpathy_entry("8.jpg", "train", "A cat.") | spoil,
    ]
    write_karpathy(tmp_path, "flickr8k", images)
    with pytest.raises(MalformedFileError, match=message):
        load_task("flickr8k-caption").examples("train", tmp_path)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_flickr8k.json").write_text("[]")
    with pytest.raises(
        MalformedFileError, match=r"dataset_flickr8k.json is \[\], expected an object"
    ):
        load_media("flickr8k", tmp_path)
    (tmp_path / "dataset_flickr8k.json").write_text("{}")
    (tmp_path / "images").mkdir()
    with pytest.raises(MalformedFileError, match="images is missing, expected a list"):
        load_media("flickr8k", tmp_path)


def test_a_duplicate_image_is_refused(tmp_path: Path) -> None:
    write_karpathy(
        tmp_path, "flickr8k", [karpathy_entry("7.jpg", "train"), karpathy_entry("7.jpg", "val")]
    )
    (tmp_path / "images").mkdir()
    with pytest.raises(MalformedFileError, match=r'images\[1\].filename is "7.jpg"'):
        load_media("flickr8k", tmp_path)


def test_real_flickr8k_has_7000_images_30000_training_captions_and_1000_validation_images() -> None:
    root = shared_data("flickr8k")
    media = load_media("flickr8k", root)
    assert len(media.items) == 7000
    assert all(item.path.is_file() for item in media.items[::500])
    task = load_task("flickr8k-caption")
    train, val = task.examples("train", root), task.examples("val", root)
    assert Counter(len(example.references) for example in train) == {1: 30000}
    assert Counter(len(example.references) for example in val) == {5: 1000}
    assert {example.key for example in train + val} == {item.key for item in media.items}
    assert not {example.key for example in train} & {example.key for example in val}
