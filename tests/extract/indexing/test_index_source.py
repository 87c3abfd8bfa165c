import csv
import errno
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epalm.cache.index.sample_index import SampleIndex
from epalm.errors import DataError, MalformedFileError, MediaError, MissingFileError, StoreError
from epalm.extract.indexing import units
from epalm.extract.indexing.index_items import IndexItems, index_media
from epalm.extract.indexing.index_source import input_source
from epalm.extract.indexing.input_files import find_input
from epalm.tasks import manifest

CONTENT = {f"{number:03d}": f"image {number}".encode() * (1 + number % 5) for number in range(40)}


def indexed(dataset: Path, folder: Path, **options: bool) -> IndexItems:
    source = input_source(find_input(dataset))
    source.builder(folder).build()
    options = {"allow_outside": False} | options
    items = index_media(SampleIndex.open(folder), source.root, **options).items
    assert isinstance(items, IndexItems)
    return items


def contents(items: IndexItems) -> dict[str, bytes]:
    return {
        item.key: item.path.read_bytes() if item.part is None else item.part.read(item.path)
        for item in items
    }


def test_manifests_give_the_items_of_the_reader_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two splits, JSONL in several units and CSV, that repeat media within and between them."""
    monkeypatch.setattr(units, "UNIT_BYTES", 500)
    data = tmp_path / "data"
    data.mkdir()
    names = [f"{number * number % 97}.jpg" for number in range(300)]
    lines = [json.dumps({"id": str(n), "media": name}) for n, name in enumerate(names[:200])]
    (data / "train.jsonl").write_text("\n".join(lines))
    with (data / "val.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "media", "answers"])
        writer.writerows([str(n), name, "a\nb"] for n, name in enumerate(names[200:]))
    items = indexed(data, tmp_path / "index")
    expected = manifest.media(data)
    assert list(items) == list(expected.items)
    assert [items[row] for row in range(-3, 5)] == [expected.items[row] for row in range(-3, 5)]
    assert list(items[7:50][3:]) == list(expected.items[10:50])
    assert index_media(items.source, data, allow_outside=False).tasks == expected.tasks


def write_tars(folder: Path) -> None:
    for number in range(3):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for name, content in list(CONTENT.items())[number::3]:
                for file, data in ((f"{name}.jpg", content), (f"{name}.txt", b"caption")):
                    member = tarfile.TarInfo(file)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))


def test_tar_files_give_the_bytes_of_their_images(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_tars(tmp_path / "data")
    expected = {
        f"{number:05d}/{name}.jpg": content
        for number in range(3)
        for name, content in list(CONTENT.items())[number::3]
    }
    items = indexed(tmp_path / "data", tmp_path / "index")
    assert contents(items) == expected
    assert [item.key for item in items] == list(expected)


def test_a_folder_of_media_gives_its_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, content in CONTENT.items():
        path = data / name[-1] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (data / "notes.txt").write_text("not a sample")
    items = indexed(data, tmp_path / "index")
    assert contents(items) == {f"{name[-1]}/{name}.jpg": data for name, data in CONTENT.items()}
    key, place = items.source.items(3, 4)[0]
    status = (data / key).stat()
    assert (place.size, place.mtime_ns) == (status.st_size, status.st_mtime_ns)


TABLES: dict[str, tuple[Callable[[], pa.Table], Callable[[int, str], str]]] = {
    "img2dataset": (
        lambda: pa.table({
            "url": ["http://x"] * 40,
            "key": list(CONTENT),
            "jpg": pa.array(CONTENT.values(), pa.binary()),
        }),
        lambda row, name: f"t/{name}",
    ),
    "datasets": (
        lambda: pa.table({
            "image": pa.array([{"bytes": data, "path": None} for data in CONTENT.values()]),
            "label": list(range(40)),
        }),
        lambda row, name: f"t/{row}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_tables_give_the_bytes_of_their_column(tmp_path: Path, kind: str) -> None:
    (tmp_path / "data").mkdir()
    table, key = TABLES[kind]
    pq.write_table(table(), tmp_path / "data/t.parquet", row_group_size=17)
    items = indexed(tmp_path / "data", tmp_path / "index")
    expected = {key(row, name): data for row, (name, data) in enumerate(CONTENT.items())}
    assert contents(items) == expected
    backwards = [item.part.read(item.path) for item in reversed(list(items)) if item.part]
    assert backwards == list(expected.values())[::-1]


def test_a_table_with_paths_of_local_files_gives_these(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name, content in CONTENT.items():
        (data / f"{name}.jpg").write_bytes(content)
    pq.write_table(pa.table({"path": [f"{name}.jpg" for name in CONTENT]}), data / "t.parquet")
    items = indexed(data / "t.parquet", tmp_path / "index")
    assert contents(items) == {f"{name}.jpg": content for name, content in CONTENT.items()}


def test_a_table_of_urls_is_refused_with_the_tool_that_downloads_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({"URL": ["http://x"], "TEXT": ["a"]}), tmp_path / "t.parquet")
    with pytest.raises(MalformedFileError, match=r"only URL, TEXT: download .* img2dataset"):
        input_source(find_input(tmp_path))


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table")
    expected = r"t\.parquet is not a complete Parquet file .*: download or write it again"
    with pytest.raises(MalformedFileError, match=expected):
        input_source(find_input(tmp_path))


@pytest.mark.parametrize(("column", "error"), [("key", MalformedFileError), ("jpg", MediaError)])
def test_a_table_with_a_damaged_column_is_refused(
    tmp_path: Path, column: str, error: type[Exception]
) -> None:
    """Keys are read when the index is built, and images when they are encoded."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data/t.parquet"
    table = pa.table({"jpg": pa.array(CONTENT.values(), pa.binary()), "key": list(CONTENT)})
    pq.write_table(table, file, use_dictionary=False)
    columns = {"jpg": 0, "key": 1}
    start = pq.ParquetFile(file).metadata.row_group(0).column(columns[column]).data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 30] = b"\xff" * 30
    file.write_bytes(data)
    with pytest.raises(error, match=r"is not a complete Parquet file .*: download or write it"):
        contents(indexed(tmp_path / "data", tmp_path / "index"))


def test_two_samples_of_one_key_in_one_file_are_refused_with_both_places(tmp_path: Path) -> None:
    keys, images = ["b", "a", "c", "a"], pa.array([b"1", b"2", b"3", b"4"], pa.binary())
    table = pa.table({"jpg": images, "key": keys})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=3)
    rows = r"in t\.parquet, at row 1 of row group 0 and at row 0 of row group 1: rename"
    with pytest.raises(StoreError, match=rf"the key 't/a' .*, {rows}"):
        indexed(tmp_path / "t.parquet", tmp_path / "index-1")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for _ in range(2):  # a header of 512 bytes, and content that fills 512
            (member := tarfile.TarInfo("a.jpg")).size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(StoreError, match=r"'t/a\.jpg' .* in t\.tar, at byte 512 and at byte 1536:"):
        indexed(tmp_path / "t.tar", tmp_path / "index-2")
    (tmp_path / "a.jpg").write_bytes(b"abc")
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg", "a.jpg"]}), tmp_path / "p.parquet")
    with pytest.raises(StoreError, match=r"in a\.jpg, at row 0 of all tables and at row 2 of all"):
        indexed(tmp_path / "p.parquet", tmp_path / "index-3")


def test_files_of_several_kinds_are_refused(tmp_path: Path) -> None:
    write_tars(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"1")
    for first in ("0.jpg", "z.jpg"):
        (tmp_path / "a.jpg").rename(tmp_path / first)
        with pytest.raises(MalformedFileError, match="contains files of several kinds"):
            indexed(tmp_path, tmp_path / "index")
        (tmp_path / first).rename(tmp_path / "a.jpg")


def test_the_files_of_several_kinds_are_named_with_their_folders(tmp_path: Path) -> None:
    write_tars(tmp_path)
    (tmp_path / "z").mkdir()
    pq.write_table(pa.table({"jpg": [b"1"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"jpg": [b"1"]}), tmp_path / "z/a.parquet")
    for first in ("00000.tar and {0}/a.parquet", "00000.tar and {0}/z/a.parquet"):
        expected = re.escape(f"e.g. {tmp_path}/{first.format(tmp_path)}: give a folder of one kind")
        with pytest.raises(MalformedFileError, match=expected):
            find_input(tmp_path)
        (tmp_path / "a.parquet").unlink(missing_ok=True)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="neither tar files, Parquet tables nor media"):
        find_input(tmp_path)


@pytest.mark.parametrize("target", ["nowhere.jpg", "link.jpg"])  # the second is a loop
def test_a_link_to_no_file_is_a_sample_of_a_folder_of_media(tmp_path: Path, target: str) -> None:
    """As a manifest's sample without its file, it fails when it is encoded."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.jpg").write_bytes(b"abc")
    (data / "link.jpg").symlink_to(target)
    items = indexed(data, tmp_path / "index")
    assert [item.key for item in items] == ["a.jpg", "link.jpg"]
    assert [place.size for _, place in items.source.items(0, 2)] == [3, -1]


@pytest.mark.parametrize("name", ["b.tar", "b.parquet", "val.jsonl"])
def test_a_link_to_no_file_among_the_files_that_list_samples_is_refused(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).symlink_to("gone")
    with pytest.raises(MissingFileError, match=f'{name} is a link to "gone", which does not'):
        find_input(tmp_path)


def test_a_folder_that_cannot_be_listed_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    (tmp_path / "a.jpg").touch()
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path) == locked:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="locked"):
        indexed(tmp_path, tmp_path / "index")


def test_paths_and_links_out_of_the_dataset_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "private.jpg").write_bytes(b"1")
    (data / "link.jpg").symlink_to(tmp_path / "private.jpg")
    (data / "up").symlink_to(tmp_path)
    for number, name in enumerate(("../private.jpg", "/private.jpg", "link.jpg", "up/private.jpg")):
        (data / "train.jsonl").write_text(json.dumps({"id": "1", "media": name}))
        items = indexed(data, tmp_path / f"index{number}")
        with pytest.raises(DataError, match=r"leads out of .*--allow-outside"):
            list(items)
        assert len(list(indexed(data, tmp_path / f"index{number}", allow_outside=True))) == 1
