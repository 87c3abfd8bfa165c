"""Stores of both formats, in a local folder and on a remote file system."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store, delete_store
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, StoreError, UnfinishedStoreError
from tests.cache.helpers import (
    BROKEN,
    KEYS,
    LOCATIONS,
    file_contents,
    fill,
    finished_store,
    random_features,
    spec,
)


@pytest.fixture(params=LOCATIONS, ids=["zarr", "hdf5", "remote-zarr", "remote-hdf5"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    return str(request.param).format(tmp_path)


def other(location: str) -> str:
    return location.replace("/s.", "/other.")


def test_a_shard_reads_back_as_it_was_written(location: str) -> None:
    store = finished_store(location)
    expected = random_features().astype(np.float16)
    expected[70] = np.nan
    for number in range(3):
        rows = store.spec.rows_of(number)
        assert np.array_equal(
            store.load_shard(number), expected[rows.start : rows.stop], equal_nan=True
        )


def test_a_failed_sample_is_listed_with_its_reason(location: str) -> None:
    store = finished_store(location)
    assert store.failed_samples() == {BROKEN: "truncated"}
    listed = [
        json.loads(line)
        for line in store.storage.read(store.private_name("errors.jsonl")).splitlines()
    ]
    assert listed == [{"key": BROKEN, "error": "truncated"}]


def test_an_unfinished_store_reports_its_missing_shards(location: str) -> None:
    store = fill(create_store(location, spec(), KEYS), [1])
    assert Store.open(location).missing_shards() == [0, 2]
    with pytest.raises(UnfinishedStoreError, match="2 of 3 shards are missing: run the same"):
        store.finish()
    with pytest.raises(UnfinishedStoreError, match=r"shard 2 of .* is missing: run the same"):
        store.commit_record(2)


def test_the_order_of_shards_and_writing_twice_do_not_change_any_byte(location: str) -> None:
    fill(create_store(location, spec(), KEYS), [2, 0])
    fill(create_store(location, spec(), KEYS), [0, 1]).finish()
    before = file_contents(Store.open(location))
    delete_store(Store.open(location))
    assert file_contents(finished_store(location)) == before


def test_concurrent_writers_create_one_store(location: str) -> None:
    gate = threading.Barrier(4)

    def work(number: int) -> None:
        gate.wait()
        fill(create_store(location, spec(), KEYS), [number] if number < 3 else [])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    Store.open(location).finish()
    together = file_contents(Store.open(location))
    delete_store(Store.open(location))
    assert file_contents(finished_store(location)) == together


def test_an_interrupted_creation_is_completed(location: str) -> None:
    store = finished_store(location)
    whole = file_contents(store)
    store.storage.delete(store.format.initial_files)
    create_store(location, spec(), KEYS)
    assert file_contents(store) == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "vit-l16"}, "encoder is vit-b16, expected vit-l16"),
        ({"dtype": "float32"}, "dtype is float16, expected float32"),
        ({"views": 2}, "views is 1, expected 2"),
        ({"layers": (1, 2)}, r"layers is \(0, 1\), expected \(1, 2\)"),
        (
            {"fingerprint": {"weights": "bb", "preprocessing": "official"}},
            "fingerprint.weights is aa, expected bb",
        ),
        (
            {"fingerprint": {"weights": "aa"}},
            "fingerprint.preprocessing is official, expected absent",
        ),
    ],
)
def test_a_store_with_other_settings_is_not_reopened(
    location: str, change: dict[str, object], words: str
) -> None:
    create_store(location, spec(), KEYS)
    with pytest.raises(CacheMismatchError, match=words):
        create_store(location, spec(**change), KEYS)


def test_if_named_preprocessing_differs_only_its_name_is_listed(location: str) -> None:
    native = {"preprocessing.name": "native", "preprocessing.size": "248", "weights": "aa"}
    official = {"preprocessing.name": "official", "preprocessing.size": "224", "weights": "bb"}
    create_store(location, spec(fingerprint=native), KEYS)
    with pytest.raises(CacheMismatchError) as caught:
        create_store(location, spec(fingerprint=official), KEYS)
    assert str(caught.value).startswith(
        f"{location} differs: fingerprint.preprocessing.name is native, expected official; "
        "fingerprint.weights is aa, expected bb. "
    )
    with pytest.raises(CacheMismatchError, match=r"preprocessing.size is 248, expected 224"):
        create_store(location, spec(fingerprint=native | {"preprocessing.size": "224"}), KEYS)


def test_a_store_with_other_samples_is_not_reopened(location: str) -> None:
    create_store(location, spec(), KEYS)
    with pytest.raises(CacheMismatchError, match="other samples"):
        create_store(location, spec(), [*KEYS[1:], "new.jpg"])


def test_a_commit_record_of_another_store_is_refused(location: str) -> None:
    store = finished_store(location)
    stranger = finished_store(other(location), encoder="vit-l16")
    name = store.commit_record_name(1)
    store.storage.put(name, [stranger.storage.read(name)])
    with pytest.raises(CacheMismatchError, match=r"00001.json was written for other settings"):
        Store.open(location).commit_record(1)


def test_a_store_is_reopened_after_data_and_weights_moved(location: str) -> None:
    create_store(location, spec(data_root="/old", weights="/old/w"), KEYS)
    create_store(location, spec(data_root="/new", weights="/new/w"), KEYS)


@pytest.mark.parametrize(
    ("value", "words"),
    [(70000.0, "magnitude 70000, the max"), (np.nan, "magnitude nan")],
)
def test_a_value_that_the_dtype_cannot_represent_is_refused_with_its_key(
    location: str, value: float, words: str
) -> None:
    store = create_store(location, spec(), KEYS)
    block = random_features()[:64]
    block[5, 0, 1, 2] = value
    with pytest.raises(StoreError, match=f"é/5.jpg has a value of {words}.*--dtype float32"):
        store.write_shard(0, block, {})
    assert 0 in store.missing_shards()


def test_the_largest_value_of_float16_is_stored(location: str) -> None:
    store = create_store(location, spec(), KEYS)
    block = random_features()[:64]
    block[5, 0, 1, 2] = 65504
    store.write_shard(0, block, {})
    assert store.load_shard(0)[5, 0, 1, 2] == 65504


@pytest.mark.parametrize("location", LOCATIONS[:2], ids=["zarr", "hdf5"], indirect=True)
def test_a_folder_with_other_files_is_left_alone(location: str) -> None:
    root = Path(Store.at(location).format.root(location))
    root.mkdir()
    (root / "photo.jpg").write_text("mine")
    with pytest.raises(StoreError, match="found no feature store"):
        create_store(location, spec(), KEYS)
    with pytest.raises(StoreError, match="found no feature store"):
        Store.open(location)
    with pytest.raises(StoreError, match="deletes only feature stores"):
        delete_store(Store.at(location))
    assert (root / "photo.jpg").read_text() == "mine"


def test_opening_a_missing_store_is_an_error(location: str) -> None:
    with pytest.raises(StoreError, match="found nothing at"):
        Store.open(location)


def test_repeated_keys_are_refused(location: str) -> None:
    with pytest.raises(StoreError, match="149 distinct"):
        create_store(location, spec(), [KEYS[1], *KEYS[1:]])


@pytest.mark.parametrize("location", LOCATIONS[:2], ids=["zarr", "hdf5"], indirect=True)
def test_temporary_files_of_killed_writers_are_ignored_and_deleted_by_finish(
    location: str,
) -> None:
    whole = file_contents(finished_store(location))
    store = Store.open(location)
    root = Path(store.format.root(location))
    left = root / store.private_name("put") / "half"
    left.parent.mkdir()
    left.write_bytes(b"half a shard")
    assert file_contents(store) == whole
    store.finish()
    assert not left.parent.exists()


def test_delete_store_deletes_every_file(location: str) -> None:
    store = finished_store(location)
    delete_store(store)
    assert not store.storage.names("")
    assert all(store.storage.size(name) is None for name in store.format.initial_files)
