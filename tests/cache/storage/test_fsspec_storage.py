"""Stores on S3, emulated by a local server."""

import logging
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import fsspec
import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.verify import repair, verify_deep
from epalm.cache.readers.open_reader import open_store
from epalm.cache.storage.fsspec_storage import FsspecStorage
from epalm.cache.store import Store
from epalm.errors import (
    CacheMismatchError,
    CorruptShardError,
    MissingToolError,
    StoreError,
    UsageError,
)
from tests.cache.helpers import (
    BROKEN,
    KEYS,
    file_contents,
    fill,
    finished_store,
    random_features,
    spec,
)


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_store_on_s3_is_written_resumed_verified_repaired_and_read(
    bucket: str, tmp_path: Path, name: str
) -> None:
    location = f"{bucket}/deep/er/{name}"
    fill(create_store(location, spec(), KEYS), [1])
    store = finished_store(location)
    assert file_contents(store) == file_contents(finished_store(tmp_path / name))
    assert list(verify_deep(Store.open(location))) == []
    damaged = store.format.extent(store.spec, 2).name
    store.storage.put(damaged, [b"short"])
    assert [issue.name for issue in repair(Store.open(location))] == [damaged]
    finished_store(location)
    source = open_store(location)
    assert source.valid([BROKEN, KEYS[0]]).tolist() == [False, True]
    actual = source.read([KEYS[149], KEYS[3]])
    assert np.array_equal(actual, random_features()[[149, 3], 0].astype(np.float16))


def test_each_file_is_one_put_and_the_commit_record_is_last(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = create_store(f"{bucket}/s.h5", spec(), KEYS)
    with caplog.at_level(logging.DEBUG, "s3fs"):
        fill(store, [1])
    puts = [
        record.getMessage()
        for record in caplog.records
        if "put_object" in record.getMessage() or "multipart" in record.getMessage()
    ]
    assert ["00001.h5" in puts[0], "done/00001.json" in puts[1], len(puts)] == [True, True, 2]


def test_the_first_of_two_processes_creates_the_store_on_s3(bucket: str) -> None:
    store = create_store(f"{bucket}/s.zarr", spec(), KEYS)
    late = Store.at(store.location)
    assert not late.storage.put_new(late.private_name("spec.json"), [b"another"])
    with pytest.raises(CacheMismatchError, match="width is 4, expected 8"):
        create_store(store.location, spec(width=8), KEYS)


def test_a_shard_is_downloaded_once_unless_its_copy_is_damaged(bucket: str, tmp_path: Path) -> None:
    store = finished_store(f"{bucket}/s.zarr")
    store.check_shard(0)
    found = (tmp_path / "copies").rglob("*cls_c_0*")
    copies = [file for file in found if file.suffix != ".lock"]
    assert len(copies) == 1
    copies[0].write_bytes(b"damaged")
    Store.open(store.location).check_shard(0)
    assert copies[0].read_bytes() == store.storage.read("cls/c/0/0/0/0")
    store.storage.put("cls/c/0/0/0/0", [b"damaged too"])
    Store.open(store.location).check_shard(0)  # the intact copy is used
    copies[0].unlink()
    with pytest.raises(CorruptShardError, match=r"s3://.*cls/c/0/0/0/0 has 11 bytes"):
        Store.open(store.location).check_shard(0)


def made_parts(parts: int, nbytes: int, fail_at: int | None = None) -> Sequence[bytes]:
    """Parts that are made one at a time, of which one may fail."""

    def make() -> Iterator[bytes]:
        for part in range(parts):
            if part == fail_at:
                raise InterruptedError("stopped")
            yield bytes([part]) * nbytes

    return cast("Sequence[bytes]", make())


@pytest.mark.parametrize(("parts", "nbytes"), [(3, 2), (101, 1 << 20)])
def test_parts_that_are_made_one_at_a_time_are_uploaded_to_s3_as_a_whole(
    bucket: str, tmp_path: Path, parts: int, nbytes: int
) -> None:
    storage = FsspecStorage(f"{bucket}/s.zarr")
    storage.put("keys", made_parts(parts, nbytes))
    assert storage.read("keys") == b"".join(bytes([part]) * nbytes for part in range(parts))
    with pytest.raises(InterruptedError):
        storage.put("keys", made_parts(5, nbytes, fail_at=2))
    assert storage.size("keys") == parts * nbytes
    assert [file for file in (tmp_path / "copies").rglob("*") if file.is_file()] == []


def test_parts_that_are_made_one_at_a_time_are_never_all_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    (tmp_path / "s.zarr").mkdir()
    storage = FsspecStorage((tmp_path / "s.zarr").as_uri())
    tracemalloc.start()
    storage.put("keys", made_parts(40, 1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "s.zarr" / "keys").stat().st_size == 40 << 20
    assert peak < 10 << 20


def test_a_missing_bucket_is_an_error(bucket: str) -> None:
    with pytest.raises(StoreError, match=r"found nothing at s3://no-such-bucket/s.zarr"):
        Store.open("s3://no-such-bucket/s.zarr")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/s.zarr .*bucket does not exist"):
        create_store("s3://no-such-bucket/s.zarr", spec(), KEYS)


def test_missing_credentials_are_an_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    fsspec.filesystem("s3").clear_instance_cache()
    with pytest.raises(StoreError, match=r"cannot be reached.*credentials"):
        Store.open("s3://bucket/s.zarr")


def test_an_unsupported_url_scheme_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"nope://x/s.zarr cannot be a feature store: specify"):
        Store.at("nope://x/s.zarr")
    with pytest.raises(MissingToolError, match=r"gs://x/s.zarr cannot be reached.*gcsfs"):
        Store.at("gs://x/s.zarr")


def test_a_commit_record_is_read_by_one_request(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished_store(f"{bucket}/s.zarr")
    names = [store.commit_record_name(shard) for shard in range(store.spec.shards)]
    expected = [store.storage.read(name) for name in names]

    async def size(*_: object) -> int:
        raise AssertionError("the size was requested first")

    monkeypatch.setattr(type(fsspec.filesystem("s3")), "_size", size)
    assert list(store.storage.read_many(names)) == expected
