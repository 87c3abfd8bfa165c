import gzip
import logging
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, MissingFileError
from epalm.tasks.task_registry import load_media, load_task
from epalm.tasks.types import Example
from tests.tasks.cc3m_files import (
    add_member,
    write_cc3m_shards,
    write_cc3m_table,
    write_cc3m_tars,
)


def read(root: Path, split: str) -> list[Example]:
    return load_task("cc3m-caption").examples(split, root)


def test_a_table_is_read_to_captions_and_images(tmp_path: Path) -> None:
    write_cc3m_table(tmp_path)
    examples = read(tmp_path, "train")
    assert [(example.key, example.question_id, example.references) for example in examples] == [
        ("photos/0.jpg", "1", ("a dog runs",)),
        ("photos/1.jpg", "2", ("un café",)),
    ]
    paths = [item.path for item in load_media("cc3m", tmp_path).items]
    assert paths == [tmp_path / "cc3m" / "photos" / f"{number}.jpg" for number in range(4)]


def test_shards_are_read_to_captions_and_images_in_order(tmp_path: Path) -> None:
    write_cc3m_shards(tmp_path)
    examples = read(tmp_path, "train")
    assert [(example.key, example.references) for example in examples] == [
        ("train/00000/000000001.jpg", ("a dog runs",)),
        ("train/00001/000010007.jpg", ("un café",)),
    ]
    items = load_media("cc3m", tmp_path).items
    assert all(item.path.is_file() for item in items)
    assert [item.key for item in items][-1] == "val/00000/000000000.jpg"


@pytest.mark.parametrize("write", [write_cc3m_table, write_cc3m_shards])
def test_images_without_a_caption_are_counted(
    write: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(write)
    write(tmp_path)
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "train")
    (line,) = caplog.messages
    assert line.endswith("1 images without a caption left out")


def test_several_captions_of_one_image_are_several_examples(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a dog\t0.jpg\na brown dog\t0.jpg\n")
    assert [example.question_id for example in read(tmp_path, "train")] == ["1", "2"]
    assert len(load_media("cc3m", tmp_path).items) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a dog", "line 2: expected caption, tab, image file"),
        (b"a dog\t ", "line 2: expected caption, tab, image file"),
        (b"a dog\thttp://example.org/1.jpg", "line 2: http.* is a URL, expected a downloaded file"),
        (b"caf\xe9\t1.jpg", "is not UTF-8"),
    ],
)
def test_a_malformed_line_is_refused(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "train.tsv").write_bytes(b"a dog\t0.jpg\n" + line)
    for load in (lambda: read(tmp_path, "train"), lambda: load_media("cc3m", tmp_path)):
        with pytest.raises(MalformedFileError, match=message):
            load()


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cc3m" / "train").mkdir(parents=True)
    with pytest.raises(MissingFileError, match="neither tar files nor images: expected a table"):
        load_media("cc3m", tmp_path)


def test_a_caption_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write_cc3m_shards(tmp_path)
    file = tmp_path / "cc3m" / "train" / "00000" / "000000001.txt"
    file.write_bytes(b"\xff")
    with pytest.raises(MalformedFileError, match=f"{file} is not UTF-8"):
        read(tmp_path, "train")


@pytest.mark.parametrize("write", [write_cc3m_shards, write_cc3m_tars])
def test_a_missing_caption_counts_as_an_empty_one(
    write: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    lone = tmp_path / "cc3m" / "train" / "00002"
    if write is write_cc3m_shards:
        lone.mkdir()
        (lone / "3.jpg").write_bytes(b"")
    else:
        with tarfile.open(f"{lone}.tar", "w") as shard:
            add_member(shard, "3.jpg", b"photo")
    assert len(load_media("cc3m", tmp_path).items) == 5
    assert len(read(tmp_path, "train")) == 2
    assert caplog.messages[-1].endswith("2 images without a caption left out")


def test_shards_without_any_caption_are_refused(tmp_path: Path) -> None:
    write_cc3m_shards(tmp_path)
    for file in tmp_path.glob("cc3m/train/*/*.txt"):
        file.unlink()
    with pytest.raises(MissingFileError, match=r"none of its 3 images has a caption.*caption_col"):
        read(tmp_path, "train")


def test_tar_files_equal_the_folders_extracted_from_them(tmp_path: Path) -> None:
    packed, extracted = tmp_path / "packed", tmp_path / "extracted"
    write_cc3m_tars(packed)
    for file in packed.glob("cc3m/*/*.tar"):
        with tarfile.open(file) as shard:
            below = extracted / file.relative_to(packed).with_suffix("")
            shard.extractall(below, filter="data")
    assert read(packed, "train") == read(extracted, "train")
    ours, theirs = (load_media("cc3m", root).items for root in (packed, extracted))
    assert [item.key for item in ours] == [item.key for item in theirs]
    assert len(ours) == 4
    for item, extracted in zip(ours, theirs, strict=True):
        assert item.part is not None
        assert item.part.read(item.path) == extracted.path.read_bytes()


def test_the_order_and_folders_of_members_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "train" / "x-train-0001.tar"
    file.parent.mkdir()
    with tarfile.open(file, "w") as shard:
        add_member(shard, "./b/1.PNG", b"second")
        add_member(shard, "./a/1.jpg", b"first")
        add_member(shard, "./a/1.txt", b"one")
        add_member(shard, "./b/1.txt", b"two\n")
    assert [(example.key, example.references) for example in read(tmp_path, "train")] == [
        ("train/x-train-0001/b/1.PNG", ("two",)),
        ("train/x-train-0001/a/1.jpg", ("one",)),
    ]


@pytest.mark.parametrize(
    "damage",
    ["cut in a header", "cut in a photo", "cut behind", "overwritten", "gzip", "empty", "no tar"],
)
def test_a_damaged_tar_file_is_refused_with_its_name(damage: str, tmp_path: Path) -> None:
    write_cc3m_tars(tmp_path)
    file = tmp_path / "cc3m" / "train" / "00001.tar"
    content = file.read_bytes()
    damaged = {
        "cut in a header": content[:2500],
        "cut in a photo": content[:2600],
        "cut behind": content.rstrip(b"\0"),
        "overwritten": content[:2048] + b"x" * 512 + content[2560:],
        "gzip": gzip.compress(content),
        "empty": b"",
        "no tar": b"\xff\xd8 a photo",
    }
    file.write_bytes(damaged[damage])
    for load in (lambda: read(tmp_path, "train"), lambda: load_media("cc3m", tmp_path)):
        with pytest.raises(MalformedFileError, match=f"{file} is not a complete, uncompressed tar"):
            load()


def test_tar_files_next_to_extracted_folders_are_refused(tmp_path: Path) -> None:
    write_cc3m_shards(tmp_path)
    write_cc3m_tars(tmp_path)
    with pytest.raises(MalformedFileError, match=r"2 tar files, .* and 3 images, "):
        read(tmp_path, "train")


def test_names_that_are_not_utf8_or_contain_nul_are_refused(tmp_path: Path) -> None:
    table, folder = tmp_path / "cc3m" / "val.tsv", tmp_path / "cc3m" / "train"
    folder.mkdir(parents=True)
    table.write_text("a cat\t a.jpg\na dog\tb\0.jpg\n")
    with pytest.raises(MalformedFileError, match=r"line 2: .* contains a NUL character"):
        read(tmp_path, "val")
    table.write_text("a cat\t a.jpg\n")
    assert read(tmp_path, "val")[0].key == " a.jpg"
    (folder / os.fsdecode(b"\xff.jpg")).touch()
    with pytest.raises(MalformedFileError, match=r"train/\\udcff.jpg.*is not UTF-8"):
        read(tmp_path, "train")
    (folder / os.fsdecode(b"\xff.jpg")).unlink()
    with tarfile.open(folder / "0.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        add_member(tar, "\xff.jpg", b"first")
    with pytest.raises(MalformedFileError, match=r"0.tar: the member name .*\\udcff.jpg.*not UTF"):
        read(tmp_path, "train")
