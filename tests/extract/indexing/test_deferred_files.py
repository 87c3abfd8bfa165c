"""The keys of a new store are written while it is filled, by a process that finds them missing."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event, current_thread, main_thread

import pytest
import zarr

from epalm.cache.create_store import create_store
from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.index.vlen_keys import KeysChunk
from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.maintenance.verify import verify_deep
from epalm.cache.store import Store
from epalm.errors import StoreError, UnfinishedStoreError
from epalm.extract.indexing.deferred_files import deferred_files_written
from tests.cache.helpers import COUNT, KEYS, file_contents, fill, finished_store, spec
from tests.cache.index.index_units import build, tar_batch, unit

CHUNK = "keys/c/0"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A new store without its keys."""
    return deferred(tmp_path)


def deferred(folder: Path) -> Store:
    index = build(folder / "index", unit("a", tar_batch("t.tar", KEYS)))
    created, _ = open_to_extract(folder / "s.zarr", spec(), IndexKeys(index), defer_keys=True)
    return created


def test_a_store_whose_keys_come_later_is_the_same_in_the_end(store: Store, tmp_path: Path) -> None:
    assert store.storage.size(CHUNK) is None
    fill(store)
    assert store.storage.size(CHUNK) is None
    store.finish()
    assert file_contents(store) == file_contents(finished_store(tmp_path / "whole.zarr"))
    assert zarr.open(store.location, mode="r")["keys"][:].tolist() == KEYS


def test_until_then_the_store_has_no_keys_and_no_damage(store: Store) -> None:
    fill(store, [0])
    reader = Store.open(store.location)
    with pytest.raises(UnfinishedStoreError, match="are not written yet"):
        _ = reader.keys
    assert list(verify_deep(reader)) == []
    store.write_deferred_files()
    assert list(Store.open(store.location).keys) == KEYS


def test_another_dataset_cannot_be_compared_with_them(store: Store, tmp_path: Path) -> None:
    fill(store, [0])
    other = build(tmp_path / "other", unit("a", tar_batch("t.tar", KEYS[1:])))
    with pytest.raises(UnfinishedStoreError, match="restore it as it was, or start over"):
        open_to_extract(store.location, spec(count=COUNT - 1), IndexKeys(other), defer_keys=True)


def test_keys_that_a_finished_store_has_lost_are_damage(store: Store) -> None:
    fill(store).finish()
    (Path(store.location) / CHUNK).unlink()
    assert [issue.name for issue in verify_deep(Store.open(store.location))] == [CHUNK]


def test_they_are_written_in_a_thread_while_the_store_is_filled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding, threads = Event(), []
    write = Store.write_deferred_files

    def noted(self: Store, *arguments: object) -> None:
        threads.append(current_thread() is main_thread())
        assert encoding.wait(20)
        write(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "write_deferred_files", noted)
    with deferred_files_written(store, at_once=True):
        encoding.set()
    assert threads == [False, True]  # the second time nothing is missing
    assert Store.open(store.location).keys[3:5] == (KEYS[3], KEYS[4])


def test_another_process_writes_them_only_if_they_are_missing_at_its_end(store: Store) -> None:
    with deferred_files_written(store, at_once=False):
        assert store.storage.size(CHUNK) is None
    written = Path(store.location, CHUNK).stat().st_mtime_ns
    with deferred_files_written(store, at_once=False):
        pass
    assert Path(store.location, CHUNK).stat().st_mtime_ns == written


class EndlessLines(Iterable[bytes]):
    """Keys of which there are always more."""

    def __init__(self) -> None:
        self.begun = Event()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b'"x"\n'
            self.begun.set()


def test_a_stopped_process_leaves_nothing_and_the_next_one_writes_them(
    store: Store, tmp_path: Path
) -> None:
    lines = EndlessLines()
    store.deferred_files[CHUNK] = KeysChunk(COUNT, lines)
    with pytest.raises(KeyboardInterrupt), deferred_files_written(store, at_once=True):
        assert lines.begun.wait(20)
        raise KeyboardInterrupt
    assert store.storage.size(CHUNK) is None
    assert list(Path(store.location).glob("epalm/put/*")) == []
    resumed = deferred(tmp_path)
    with deferred_files_written(resumed, at_once=True):
        fill(resumed)
    resumed.finish()
    assert file_contents(resumed) == file_contents(finished_store(tmp_path / "whole.zarr"))


def test_a_full_disk_ends_the_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, name: str, parts: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(store.storage), "put", full)
    with (
        pytest.raises(StoreError, match=rf"{CHUNK} of .* could not be written .*No space left"),
        deferred_files_written(store, at_once=True),
    ):
        pass


def test_keys_in_memory_are_written_at_once(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", spec(), KEYS, defer_keys=True)
    assert (store.deferred_files, len(Store.open(store.location).keys)) == ({}, COUNT)
