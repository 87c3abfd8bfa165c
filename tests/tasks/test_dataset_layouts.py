"""Every task reads every layout of its files, and refuses malformed ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from epalm.errors import EpalmError, MalformedFileError, MissingFileError, UnknownSplitError
from epalm.tasks.task_registry import DATASETS, TASKS, load_media, load_task
from epalm.tasks.types import Example
from tests.tasks.dataset_layouts import LAYOUTS, DatasetLayout, Member
from tests.tasks.dataset_writers import write_official_data_folder

FILES = [(name, file) for name, layout in LAYOUTS.items() for file in layout.required]
MEMBERS = [
    (name, file, member)
    for name, layout in LAYOUTS.items()
    for file, members in layout.required.items()
    for member in members
]


def read(layout: DatasetLayout, root: Path) -> dict[str, list[Example]]:
    task = load_task(layout.task, root)
    return {split: task.examples(split, root) for split in layout.splits}


def refusal(layout: DatasetLayout, root: Path) -> EpalmError:
    """Return the error of loading the dataset, or else of its first split."""
    with pytest.raises(EpalmError) as caught:
        load_media(layout.dataset, root)
        read(layout, root)
    return caught.value


def parent(file: Path, member: Member) -> tuple[Any, Any]:
    """Return the content of a file, and the object or list that contains a member."""
    content = container = json.loads(file.read_text(encoding="utf-8"))
    for step in member[:-1]:
        container = container[step]
    return content, container


def test_every_task_and_every_dataset_has_a_layout() -> None:
    assert {layout.task for layout in LAYOUTS.values()} == TASKS.keys() - {"manifest"}
    assert {layout.dataset for layout in LAYOUTS.values()} == DATASETS.keys()


@pytest.mark.parametrize(
    "name", [name for name, layout in LAYOUTS.items() if layout.task.endswith(("qa", "qa2"))]
)
def test_equal_texts_of_many_questions_are_in_memory_once(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    for split, examples in read(layout, tmp_path).items():
        texts = [
            text
            for example in examples
            for text in (
                example.key,
                example.prompt,
                *example.answers,
                *example.references,
                example.question_type,
            )
        ]
        assert len({id(text) for text in texts}) == len(set(texts)), split


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_split_is_read_and_its_media_are_in_the_dataset(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    media = load_media(layout.dataset, tmp_path)
    assert layout.task in media.tasks
    keys = {item.key for item in media.items}
    assert len(keys) == len(media.items)
    for split, examples in read(layout, tmp_path).items():
        assert examples, split
        assert {example.key for example in examples} <= keys
        assert len({example.question_id for example in examples}) == len(examples)
        assert all(
            bool(example.references) == (split not in layout.unanswered) for example in examples
        )
        assert all(
            bool(example.answers) == (split not in layout.unanswered) for example in examples
        )
        assert all(len(example.weights) in (0, len(example.answers)) for example in examples)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_unknown_split_is_refused_with_the_known_ones(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    with pytest.raises(UnknownSplitError, match=r"no split 'dev': choose one of .*") as caught:
        load_task(layout.task).examples("dev", tmp_path)
    assert set(layout.splits) <= set(str(caught.value).replace(",", "").split())
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.media])
def test_a_missing_media_folder_is_reported_with_the_searched_folders(
    name: str, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    for folder in layout.media:
        shutil.rmtree(tmp_path / folder)
    with pytest.raises(MissingFileError) as caught:
        load_media(layout.dataset, tmp_path)
    assert str(tmp_path / layout.media[0]) in str(caught.value)
    assert "docs/reference/data.md" in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", LAYOUTS)
def test_without_any_file_the_error_lists_the_searched_paths_and_the_source(
    name: str, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    for load in (
        lambda: load_media(layout.dataset, tmp_path),
        lambda: load_task(layout.task).examples(layout.splits[0], tmp_path),
    ):
        with pytest.raises(MissingFileError) as caught:
            load()
        assert str(tmp_path) in str(caught.value)
        assert "docs/reference/data.md" in str(caught.value)


@pytest.mark.parametrize(("name", "file"), FILES)
def test_a_missing_file_without_an_alternative_is_reported(
    name: str, file: str, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(MissingFileError, match=r"docs/reference/data\.md") as caught:
        read(layout, tmp_path)
    assert str(tmp_path / file) in str(caught.value)


@pytest.mark.parametrize(("name", "file"), FILES)
@pytest.mark.parametrize("fraction", [0, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_its_name(
    name: str, file: str, fraction: float, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[: int(fraction * len(content))])
    error = refusal(layout, tmp_path)
    assert isinstance(error, MalformedFileError)
    assert str(error).startswith(str(tmp_path / file))
    assert "download it again" in str(error)
    assert error.exit_code == 1


@pytest.mark.parametrize(("name", "file"), FILES)
@pytest.mark.parametrize("content", ["7", '"text"', "[7]", '{"a": 7}'])
def test_a_file_of_another_structure_is_refused_with_its_name(
    name: str, file: str, content: str, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    (tmp_path / file).write_text(content)
    error = refusal(layout, tmp_path)
    assert isinstance(error, MalformedFileError)
    assert str(error).startswith(str(tmp_path / file))


@pytest.mark.parametrize(("name", "file", "member"), MEMBERS)
def test_a_missing_member_is_refused_with_its_position(
    name: str, file: str, member: Member, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    content, container = parent(tmp_path / file, member)
    del container[member[-1]]
    (tmp_path / file).write_text(json.dumps(content))
    error = refusal(layout, tmp_path)
    assert isinstance(error, MalformedFileError)
    assert str(error).startswith(str(tmp_path / file))
    assert str(member[-1]) in str(error) or ("question" in member and ".sent" in str(error))


@pytest.mark.parametrize(("name", "file", "member"), MEMBERS)
@pytest.mark.parametrize("wrong", [2.5, {"wrong": 7}, None, [[7]]])
def test_a_member_of_another_type_is_refused_with_its_position(
    name: str, file: str, member: Member, wrong: object, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    layout.write(tmp_path)
    content, container = parent(tmp_path / file, member)
    container[member[-1]] = wrong
    (tmp_path / file).write_text(json.dumps(content))
    error = refusal(layout, tmp_path)
    assert isinstance(error, MalformedFileError)
    assert str(error).startswith(str(tmp_path / file))
    assert str(member[-1]) in str(error)


def test_the_data_folder_of_the_official_implementation_is_read_as_it_is(tmp_path: Path) -> None:
    write_official_data_folder(tmp_path)
    names = ("vqa2", "coco-caption", "gqa", "msrvtt-qa", "msrvtt-caption", "msvd-qa")
    for name in (*names, "audiocaps-caption"):
        task = load_task(name, tmp_path)
        assert task.examples(task.train_split, tmp_path)
        assert task.examples(task.val_split, tmp_path)
    folders = {
        "coco": "COCO/images/train2014",
        "gqa": "GQA/images",
        "msrvtt": "MSRVTT/videos/all",
        "msvd": "MSVD/videos/all",
        "audiocaps": "audiocaps/audios",
    }
    for name, folder in folders.items():
        media = load_media(name, tmp_path)
        assert media.root == tmp_path
        assert media.items[0].folder == tmp_path / folder


@pytest.mark.parametrize("name", ["vqa2", "vqa2 as VL-T5", "coco-caption", "okvqa"])
def test_all_files_of_coco_may_be_in_a_folder_coco(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    (tmp_path / "coco").mkdir()
    layout.write(tmp_path / "coco")
    assert load_media("coco", tmp_path).items
    assert load_task(layout.task, tmp_path).examples(layout.train, tmp_path)
