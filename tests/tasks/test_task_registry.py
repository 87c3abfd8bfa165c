from pathlib import Path

import pytest

from epalm.errors import MissingFileError, UsageError
from epalm.plugins import TypedName
from epalm.tasks.task_registry import DATASETS, TASKS, load_media, load_task, resolve_data_root
from epalm.tasks.types import MediaItem, MediaSet, Task
from tests.tasks.annotation_files import karpathy_entry, write_karpathy


def two_images(root: Path) -> MediaSet:
    items = (MediaItem("a", root, "a.jpg"), MediaItem("b", root, "b.jpg"))
    return MediaSet("two", items, ("nothing",), root)


def nothing(root: Path) -> Task:
    return Task("nothing", "qa", "exact", ("train",), lambda split, root: [])


@pytest.fixture(autouse=True)
def no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EPALM_DATA_ROOT", raising=False)


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"manifest"}))
def test_every_task_has_its_name_and_valid_default_splits(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.val_split in task.splits


@pytest.mark.parametrize("name", sorted(n for n in DATASETS if "karpathy" in DATASETS[n]))
def test_every_karpathy_dataset_lists_existing_tasks(name: str, tmp_path: Path) -> None:
    write_karpathy(
        tmp_path, name, [karpathy_entry("7.jpg", "train", "A dog.", filepath="train2014")]
    )
    (tmp_path / "images" / "train2014").mkdir(parents=True)
    media = load_media(name, tmp_path)
    assert media.name == name
    assert set(media.tasks) <= set(TASKS)


def test_a_factory_of_the_user_is_called_with_the_data_root(tmp_path: Path) -> None:
    media = load_media(TypedName(f"{__name__}:two_images"), tmp_path)
    assert [item.path for item in media.items] == [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    assert load_task(TypedName(f"{__name__}:nothing"), tmp_path).name == "nothing"


def test_a_factory_that_returns_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="returned a Task, expected a MediaSet"):
        load_media(TypedName(f"{__name__}:nothing"), tmp_path)
    with pytest.raises(UsageError, match="returned a MediaSet, expected a Task"):
        load_task(TypedName(f"{__name__}:two_images"), tmp_path)


@pytest.mark.parametrize("name", ["cocoa", "no.such:thing", f"{__name__}:absent", ":", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="coco-caption"):
        load_task(TypedName(name))


def test_an_unknown_dataset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="coco, coco-test2015, flickr8k, flickr30k"):
        load_media("cocoa")


@pytest.mark.parametrize("name", ["data/desk", "train.jsonl"])
def test_a_missing_path_is_reported_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingFileError, match=str(tmp_path / name)):
        load_media(name)


def test_a_known_name_takes_precedence_over_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    with pytest.raises(MissingFileError, match=r"dataset_coco\.json"):
        load_media("coco", tmp_path)
    with pytest.raises(MissingFileError, match="contains no manifest"):
        load_media("./coco", tmp_path)


def test_the_data_root_is_the_option_then_the_environment_then_the_record_then_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_data_root(None) == tmp_path / "data"
    assert resolve_data_root(None, recorded="/then") == Path("/then")
    monkeypatch.setenv("EPALM_DATA_ROOT", "/now")
    assert resolve_data_root(None, recorded="/then") == Path("/now")
    assert resolve_data_root(Path("here"), recorded="/then") == tmp_path / "here"


def test_the_root_of_a_manifest_ignores_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EPALM_DATA_ROOT", "/photos")
    assert resolve_data_root(None, recorded="/desk", task="manifest") == Path("/desk")
    assert resolve_data_root(Path("/moved"), recorded="/desk", task="manifest") == Path("/moved")


def test_media_are_searched_in_the_data_root_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_karpathy(tmp_path, "flickr8k", [karpathy_entry("7.jpg", "train", "A dog.")])
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("EPALM_DATA_ROOT", str(tmp_path))
    assert load_media("flickr8k").root == tmp_path


def test_a_data_root_in_the_home_of_an_unknown_user_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EPALM_DATA_ROOT", "~nobody-of-this-name/data")
    with pytest.raises(UsageError, match=r"unknown user.*EPALM_DATA_ROOT"):
        resolve_data_root(None)
    monkeypatch.setenv("EPALM_DATA_ROOT", "")
    assert resolve_data_root(None, recorded="/then") == Path("/then")
