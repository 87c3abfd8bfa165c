"""Requests to an object store that fail for a moment, and those that fail for good."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from epalm.cache.create_store import create_store
from epalm.cache.storage import retries
from epalm.cache.storage.fsspec_storage import FsspecStorage
from epalm.cache.storage.retries import TRIES, is_transient, retried
from epalm.errors import StoreError
from tests.cache.helpers import KEYS, fill, reopen, spec


class ServerDisconnectedError(Exception):
    """Named as aiohttp's."""


class HttpError(Exception):
    """As gcsfs's, with a status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"status {code}")
        self.code = code


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(retries, "sleep", waited.append)
    return waited


def failing(errors: list[Exception]) -> Callable[[], str]:
    """A request that raises these errors, one each time, then succeeds."""

    def request() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    return request


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EBUSY, "503 SlowDown"),
        ConnectionResetError(),
        TimeoutError(),
        ServerDisconnectedError(),
        HttpError(503),
        HttpError(429),
    ],
    ids=repr,
)
def test_what_fails_for_a_moment_is_repeated(error: Exception, waits: list[float]) -> None:
    assert retried(failing([error] * (TRIES - 1))) == "done"
    assert len(waits) == TRIES - 1
    assert waits[0] <= 0.4
    assert 11.2 <= sum(waits) <= 22.4
    with pytest.raises(type(error)):
        retried(failing([error] * TRIES))


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(), FileExistsError(), PermissionError(errno.EACCES, "no"), HttpError(403)],
    ids=repr,
)
def test_what_fails_for_good_is_not_repeated(error: Exception, waits: list[float]) -> None:
    with pytest.raises(type(error)):
        retried(failing([error]))
    assert waits == []


def test_the_cause_of_an_error_counts() -> None:
    try:
        raise RuntimeError("the library's own") from ConnectionResetError()
    except RuntimeError as error:
        assert is_transient(error)
    assert not is_transient(RuntimeError())


def test_a_new_file_whose_answer_was_lost_is_the_writers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FsspecStorage(f"memory:/{tmp_path}/s.zarr")
    original, lost = storage._files.pipe_file, [True]

    def pipe_file(path: str, value: bytes, **options: object) -> None:
        original(path, value, **options)
        if lost.pop():
            lost.append(False)
            raise OSError(errno.EBUSY, "503")

    monkeypatch.setattr(storage._files, "pipe_file", pipe_file)
    assert storage.put_new("mine", [b"1"])
    assert not storage.put_new("mine", [b"2"])
    assert storage.read("mine") == b"1"


def test_only_the_files_that_failed_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FsspecStorage(f"memory:/{tmp_path}/s.zarr")
    for name in "abc":
        storage.put(name, [name.encode()])
    original, calls = storage._files.cat, list[int]()

    def cat(paths: list[str], **options: object) -> dict[str, object]:
        calls.append(len(paths))
        contents = original(paths, **options)
        return contents | ({paths[1]: TimeoutError()} if len(calls) == 1 else {})

    monkeypatch.setattr(storage._files, "cat", cat)
    assert list(storage.read_many(["a", "b", "c", "d"])) == [b"a", b"b", b"c", None]
    assert calls == [4, 1]


def test_an_error_that_stays_names_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = FsspecStorage(f"memory:/{tmp_path}/s.zarr")

    def info(path: str) -> None:
        raise OSError(errno.EBUSY, "503 SlowDown")

    monkeypatch.setattr(storage._files, "info", info)
    with pytest.raises(StoreError, match=r"cannot be reached .*503 SlowDown.*finished shards are"):
        storage.size("spec.json")


def test_a_store_is_complete_although_a_listing_lacks_its_last_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(create_store(tmp_path / "s.zarr", spec(), KEYS))
    original = type(store.storage).list_files

    def stale(storage: object, folder: str) -> object:
        files = original(storage, folder)  # type: ignore[arg-type]
        return {name: info for name, info in files.items() if "00002" not in name}

    monkeypatch.setattr(type(store.storage), "list_files", stale)
    assert reopen(store).missing_shards() == []
    assert reopen(store).finish() == 1
    store.uncommit_shard(2)
    assert reopen(store).missing_shards() == [2]
