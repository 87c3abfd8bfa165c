"""The stored look-up table gives the same rows as one in memory, and is made again if damaged."""

import logging
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.formats.keys import stored_table
from epalm.cache.readers.open_reader import open_store
from epalm.cache.store import Store
from epalm.errors import CorruptShardError
from tests.cache.helpers import BROKEN, KEYS, finished_store, random_features


@pytest.fixture(autouse=True)
def store_small_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    monkeypatch.setattr(stored_table, "STORED_KEYS", 100)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return finished_store(tmp_path / "s.zarr")


def tables(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "copies" / stored_table.FOLDER
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def check(store: Store) -> None:
    opened = Store.open(store.location)
    assert opened.keys == KEYS
    rows = np.random.default_rng(0).permutation(len(KEYS))
    wanted = [KEYS[row] for row in rows]
    assert opened.key_table.find(["?", *wanted, ""]).tolist() == [-1, *rows.tolist(), -1]


def refuse(*_: object) -> None:
    raise AssertionError("the table was made again")


def test_the_table_is_made_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(store)
    assert len(tables(tmp_path)) == 1
    monkeypatch.setattr(stored_table, "make_entries", refuse)
    check(store)
    key = next(key for key in KEYS if key not in BROKEN)
    expected = random_features()[KEYS.index(key), 0].astype(np.float16)
    assert (open_store(store.location).read([key])[0] == expected).all()


def test_another_store_has_another_table(store: Store, tmp_path: Path) -> None:
    check(store)
    check(finished_store(tmp_path / "other.zarr", encoder="another"))
    assert len(tables(tmp_path)) == 2


@pytest.mark.parametrize("place", [0, 500, stored_table.HEADER_BYTES, -1])
def test_a_damaged_table_is_made_again(store: Store, tmp_path: Path, place: int) -> None:
    check(store)
    (table,) = tables(tmp_path)
    data = bytearray(table.read_bytes())
    data[place] ^= 1
    table.write_bytes(data)
    check(store)
    assert table.read_bytes() != data


def test_a_truncated_or_empty_table_is_made_again(store: Store, tmp_path: Path) -> None:
    check(store)
    (table,) = tables(tmp_path)
    for size in (table.stat().st_size - 8, stored_table.HEADER_BYTES, 0):
        table.write_bytes(table.read_bytes()[:size])
        check(store)


def test_a_table_of_another_version_is_made_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(store)
    monkeypatch.setattr(stored_table, "VERSION", 2)
    check(store)
    (table,) = tables(tmp_path)
    assert b'"version": 2' in table.read_bytes()


def test_without_a_folder_to_write_to_the_table_is_in_memory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        check(store)
    assert "is made in this process" in caplog.text


def test_a_changed_key_is_refused_although_there_is_a_table(store: Store) -> None:
    check(store)
    chunk = store.storage.read("keys/c/0")
    assert chunk.count(KEYS[0].encode())
    store.storage.put("keys/c/0", [chunk.replace(KEYS[0].encode(), KEYS[0][::-1].encode(), 1)])
    with pytest.raises(CorruptShardError, match="are not those it was created with"):
        _ = Store.open(store.location).keys
