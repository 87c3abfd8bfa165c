"""The local cache keeps below its limit, and copies are whole whoever writes or deletes them."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.readers.disk_readers import OPEN_FILES, PreadReader, ShardFiles
from epalm.cache.readers.open_reader import open_store
from epalm.cache.storage import local_copies
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.local_copies import LocalCopies, parse_size, use_local_cache
from epalm.cache.store import Store
from epalm.errors import StoreError, UsageError
from tests.cache.helpers import BROKEN, KEYS, finished_store, random_features


def crc(data: bytes) -> str:
    return size_and_checksum([data])[1]


def put(copies: LocalCopies, name: str, data: bytes) -> Path:
    return copies.get(name, crc(data), lambda path: path.write_bytes(data) and None)


def set_age(path: Path, seconds: float) -> None:
    used = path.stat().st_atime - seconds
    os.utime(path, (used, used))


def test_the_copy_used_least_recently_is_deleted_first(tmp_path: Path) -> None:
    copies, other = (LocalCopies(tmp_path / name, 250) for name in ("one", "two"))
    paths = [put(copies, "a/0", b"a" * 100), put(other, "b", b"b" * 100)]
    set_age(paths[0], 100)
    set_age(paths[1], 50)
    assert put(copies, "a/0", b"a" * 100) == paths[0]  # used again
    third = put(other, "c", b"c" * 100)
    assert [path.exists() for path in (*paths, third)] == [True, False, True]


def test_a_copy_larger_than_the_limit_is_kept_alone(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "one", 10)
    first, second = put(copies, "a", b"a" * 100), put(copies, "b", b"b" * 100)
    assert [first.exists(), second.exists()] == [False, True]


def test_files_of_killed_processes_are_deleted_after_a_day(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "one", 250)
    put(copies, "a", b"a" * 100)
    leftovers = [tmp_path / "one" / f".{name}.part" for name in ("old", "new")]
    for path in leftovers:
        path.write_bytes(bytes(200))
    set_age(leftovers[0], 24 * 3600 + 10)
    set_age(leftovers[1], 24 * 3600 - 300)
    put(copies, "b", b"b" * 100)
    assert [path.exists() for path in leftovers] == [False, True]


def test_processes_that_need_the_same_file_download_it_once(tmp_path: Path) -> None:
    started, downloads = threading.Barrier(8), []

    def download(path: Path) -> None:
        downloads.append(path)
        path.write_bytes(b"content")

    def get(_: int) -> Path:
        copies = LocalCopies(tmp_path / "one", None)
        started.wait()
        return copies.get("a", crc(b"content"), download)

    with ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(get, range(8)))
    assert (len(paths), len(downloads)) == (1, 1)
    assert paths.pop().read_bytes() == b"content"


def test_a_file_with_another_checksum_gets_another_name(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "one", None)
    path = copies.get("a", "00000000", lambda target: target.write_bytes(b"x") and None)
    assert path.name == f"{crc(b'x')}-a"
    assert not copies.path("a", "00000000").exists()
    copies.discard("a", "00000000")
    assert not path.exists()


def test_an_interrupted_download_leaves_no_copy(tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "one", None)

    def fail(path: Path) -> None:
        path.write_bytes(b"con")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copies.get("a", crc(b"content"), fail)
    assert [path.name for path in (tmp_path / "one").iterdir() if path.suffix != ".lock"] == []
    assert put(copies, "a", b"content").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("text", "size"), [("200GB", 200 * 10**9), ("1.5 tb", 15 * 10**11), ("7b", 7)]
)
def test_sizes(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_size(text, "--x") == size
    monkeypatch.setenv("EPALM_COPIES_SIZE", "")
    monkeypatch.setenv("EPALM_COPIES", "")
    use_local_cache(Path("here"), text)
    assert local_copies.copies_limit() == size
    assert local_copies.copies_folder() == Path("here").absolute()


def test_impossible_sizes_are_refused() -> None:
    for text in ("many", "GB", "-1GB", "1 GiB"):
        with pytest.raises(UsageError, match="--local-cache-size"):
            use_local_cache(None, text)
    with pytest.raises(UsageError, match="above 0"):
        LocalCopies(Path("x"), 0)


@pytest.mark.parametrize("reader", ["ram", "mapped", "pread"])
def test_a_store_larger_than_its_cache_is_read_from_s3(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    location = f"{bucket}/s.zarr"
    store = finished_store(location)
    shard_bytes = store.commit_record(0).files["cls/c/0/0/0/0"][0]
    monkeypatch.setenv("EPALM_COPIES_SIZE", f"{shard_bytes + 10}B")
    source = open_store(location, reader=reader)
    keys = [key for key in (*KEYS, *reversed(KEYS)) if key != BROKEN]
    rows = [KEYS.index(key) for key in keys]
    for start in range(0, len(keys), 40):
        expected = random_features()[rows[start : start + 40], 0].astype(np.float16)
        assert np.array_equal(source.read(keys[start : start + 40]), expected)
    copies = [path for path in (tmp_path / "copies").rglob("*") if path.suffix != ".lock"]
    assert sum(path.stat().st_size for path in copies if path.is_file()) <= shard_bytes + 10


def test_a_shard_that_is_downloaded_again_is_checked_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OPEN_FILES
    monkeypatch.setattr("epalm.cache.readers.disk_readers.OPEN_FILES", 0)
    store = finished_store(f"{bucket}/s.zarr")
    reader = PreadReader(ShardFiles(Store.open(store.location)))
    row, out = np.array([3]), np.empty((1, 2, 4), np.float16)
    reader.take(row, np.zeros(1, np.intp), out)
    assert np.array_equal(out[0], random_features()[3, 0].astype(np.float16))
    store.storage.discard_copy("cls/c/0/0/0/0", store.commit_record(0).files["cls/c/0/0/0/0"][1])
    store.storage.put("cls/c/0/0/0/0", [bytes(len(store.storage.read("cls/c/0/0/0/0")))])
    with pytest.raises(StoreError, match="cls/c/0/0/0/0"):
        reader.take(row, np.zeros(1, np.intp), out)
