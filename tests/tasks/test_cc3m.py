import logging
from pathlib import Path

import pytest

from epalm.errors import DataError, MalformedFileError, MissingFileError
from epalm.tasks.records import Example
from epalm.tasks.registry import load_media, load_task
from tests.tasks.writers import write_cc3m_shards, write_cc3m_table


def read(root: Path, split: str) -> list[Example]:
    return load_task("cc3m-caption").examples(split, root)


def test_a_table_gives_caption_and_photo(tmp_path: Path) -> None:
    write_cc3m_table(tmp_path)
    examples = read(tmp_path, "train")
    assert [(one.key, one.question_id, one.references) for one in examples] == [
        ("photos/0.jpg", "1", ("a dog runs",)),
        ("photos/1.jpg", "2", ("un café",)),
    ]
    paths = [item.path for item in load_media("cc3m", tmp_path).items]
    assert paths == [tmp_path / "cc3m" / "photos" / f"{number}.jpg" for number in range(4)]


def test_shards_give_caption_and_photo_in_order(tmp_path: Path) -> None:
    write_cc3m_shards(tmp_path)
    examples = read(tmp_path, "train")
    assert [(one.key, one.references) for one in examples] == [
        ("train/00000/000000001.jpg", ("a dog runs",)),
        ("train/00001/000010007.jpg", ("un café",)),
    ]
    items = load_media("cc3m", tmp_path).items
    assert all(item.path.is_file() for item in items)
    assert [item.key for item in items][-1] == "val/00000/000000000.jpg"


@pytest.mark.parametrize("write", [write_cc3m_table, write_cc3m_shards])
def test_photos_without_caption_are_counted(
    write: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(write)
    write(tmp_path)
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "train")
    (line,) = caplog.messages
    assert line.endswith("1 photos without caption left out")


def test_several_captions_of_one_photo_are_several_examples(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("a dog\t0.jpg\na brown dog\t0.jpg\n")
    assert [one.question_id for one in read(tmp_path, "train")] == ["1", "2"]
    assert len(load_media("cc3m", tmp_path).items) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a dog", "line 2: wanted caption, tab, file of the photo"),
        (b"a dog\t ", "line 2: wanted caption, tab, file of the photo"),
        (b"a dog\thttp://example.org/1.jpg", "line 2: http.* is a URL, wanted .* downloaded"),
        (b"caf\xe9\t1.jpg", "is not UTF-8"),
    ],
)
def test_a_line_of_another_layout_is_refused(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "train.tsv").write_bytes(b"a dog\t0.jpg\n" + line)
    for load in (lambda: read(tmp_path, "train"), lambda: load_media("cc3m", tmp_path)):
        with pytest.raises(MalformedFileError, match=message):
            load()


def test_shards_that_were_not_extracted_are_named_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "cc3m" / "train").mkdir(parents=True)
    with pytest.raises(MissingFileError, match="holds no photo"):
        load_media("cc3m", tmp_path)
    (tmp_path / "cc3m" / "train" / "00000.tar").write_bytes(b"")
    with pytest.raises(MissingFileError, match=r"only 1 tar files: extract .*tar -xf"):
        load_media("cc3m", tmp_path)


@pytest.mark.parametrize(("content", "message"), [(None, "was not found"), (b"\xff", "not UTF-8")])
def test_a_photo_of_a_shard_without_readable_text_is_refused(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    write_cc3m_shards(tmp_path)
    file = tmp_path / "cc3m" / "train" / "00000" / "000000001.txt"
    file.unlink()
    if content:
        file.write_bytes(content)
    with pytest.raises(DataError, match=f"{file} .*{message}"):
        read(tmp_path, "train")
