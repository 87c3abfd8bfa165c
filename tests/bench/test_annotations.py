"""The benchmark of annotation files: that they are of the published layouts, and read as such."""

import json
from pathlib import Path

import pytest

from bench import annotations
from bench.support.annotation_files import WRITERS

SHARE = 1 / 8000

FOUND = {
    "coco media": 10 + 4 + 1 + 1,
    "coco-caption train": 5 * (10 + 4),
    "vqa2 standard_train": 55,
    "vqa2 karpathy_train": 55 + 22,
    "vqa2 karpathy_train (VL-T5)": 76,
    "gqa media": 9 + 1 + 1,
    "gqa train": 118,
    "msrvtt media": 3,
    "msrvtt-qa train": 20,
}
"""The published numbers times `SHARE`; of 27 questions of val2014 22 are about restval's photos."""


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roots")
    for name, write in WRITERS.items():
        (folder / name).mkdir()
        write(folder / name, SHARE)
    return folder


def test_every_reading_finds_the_published_number_of_records(roots: Path) -> None:
    actual = {
        str(one): annotations.read(str(roots / one.root), one.name, one.split)["number"]
        for one in annotations.READINGS
    }
    assert actual == FOUND


@pytest.mark.parametrize("one", annotations.READINGS, ids=str)
def test_each_file_of_a_reading_is_opened_once(
    roots: Path, monkeypatch: pytest.MonkeyPatch, one: annotations.Reading
) -> None:
    root, opened = roots / one.root, list[Path]()
    take = Path.open

    def note(file: Path, *arguments: str, **names: str) -> object:
        opened.extend([file] if file.is_relative_to(root) else [])
        return take(file, *arguments, **names)

    monkeypatch.setattr(Path, "open", note)
    annotations.read(str(root), one.name, one.split)
    assert sorted(opened) == sorted(root / file for file in one.files)


def test_written_files_are_reproducible(roots: Path, tmp_path: Path) -> None:
    WRITERS["msrvtt"](tmp_path, SHARE)
    for split in ("train", "val", "test"):
        name = f"annotation/msrvtt_vqa_{split}.json"
        assert (tmp_path / name).read_bytes() == (roots / "msrvtt" / name).read_bytes()


@pytest.mark.slow
def test_each_reading_is_compared_with_plain_json(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    annotations.main(share=SHARE, rounds=1, folder=tmp_path, json=file)
    lines = {line["what"]: line for line in json.loads(file.read_text())["lines"]}
    for reading, number in FOUND.items():
        assert lines[f"{reading}: records"]["value"] == number
        assert lines[f"{reading}: time"]["ratio"]["median"] > 0
        assert lines[f"{reading}: json.load peak"]["value"] > 0
    assert list(tmp_path.iterdir()) == [file]
