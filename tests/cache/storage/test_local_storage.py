"""Writing files of a store in a folder while other writers finish the same store."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from epalm.cache.storage.local_storage import PUT_TRIES, LocalStorage


def deletes_first(
    storage: LocalStorage, real: Callable[..., None], times: int
) -> Callable[..., None]:
    """The real function, before whose first calls another writer deletes temporary files."""
    left = [times]

    def call(*arguments: object) -> None:
        if left[0]:
            left[0] -= 1
            storage.delete_partial_writes()
        real(*arguments)

    return call


@pytest.mark.parametrize(
    ("method", "moves"), [("put", (Path, "replace")), ("put_new", (os, "link"))]
)
def test_a_write_is_repeated_if_another_writer_deletes_its_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, moves: tuple[object, str]
) -> None:
    storage = LocalStorage(tmp_path, "put")
    owner, name = moves
    write = getattr(storage, method)
    real = getattr(owner, name)
    monkeypatch.setattr(owner, name, deletes_first(storage, real, PUT_TRIES - 1))
    write("folder/one", [b"content"])
    assert storage.read("folder/one") == b"content"
    monkeypatch.setattr(owner, name, deletes_first(storage, real, PUT_TRIES))
    with pytest.raises(FileNotFoundError):
        write("folder/two", [b"content"])
    assert storage.names("folder") == ["folder/one"]


def test_a_name_is_given_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, "put")
    assert storage.put_new("folder/one", [b"first"])
    assert not storage.put_new("folder/one", [b"second"])
    assert storage.read("folder/one") == b"first"
    storage.delete_partial_writes()
    assert storage.names("") == ["folder/one"]
