"""Damage to any file is found; repair and another extraction restore the same bytes."""

import random
from pathlib import Path
from typing import Any

import pytest

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.verify import OTHER_KEYS, repair, verify, verify_deep
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.store import Store
from tests.cache.helpers import (
    KEYS,
    LOCATIONS,
    edit_json,
    file_contents,
    fill,
    finished_store,
    reopen,
    spec,
)

PLACES = LOCATIONS[:3]


@pytest.fixture(params=PLACES, ids=["zarr", "hdf5", "remote-zarr"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    return finished_store(str(request.param).format(tmp_path))


def extract_again(store: Store) -> Store:
    """Run the same extraction once more."""
    completed = fill(create_store(store.location, spec(), KEYS))
    completed.finish()
    return completed


def test_an_intact_store_has_no_issues(store: Store) -> None:
    assert list(verify(store)) == list(verify_deep(store)) == []


def test_an_unfinished_store_has_no_issues(tmp_path: Path) -> None:
    half = fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [1])
    assert list(verify_deep(half)) == []


def test_a_flipped_bit_in_any_file_is_found_and_repaired(store: Store) -> None:
    whole = file_contents(store)
    for name, data in whole.items():
        for place in {0, len(data) // 2, len(data) - 1}:
            flipped = bytearray(data)
            flipped[place] ^= 1 << (place % 8)
            store.storage.put(name, [bytes(flipped)])
            assert [issue.name for issue in verify_deep(reopen(store))] == [name], place
            repair(reopen(store))
            assert file_contents(extract_again(store)) == whole, name


@pytest.mark.slow
def test_each_of_many_random_flipped_bits_is_found(store: Store) -> None:
    random_bits = random.Random(0)
    whole = file_contents(store)
    for _ in range(1500):
        name = random_bits.choice(list(whole))
        flipped = bytearray(whole[name])
        flipped[random_bits.randrange(len(flipped))] ^= 1 << random_bits.randrange(8)
        store.storage.put(name, [bytes(flipped)])
        assert [issue.name for issue in verify_deep(reopen(store))] == [name]
        store.storage.put(name, [whole[name]])


def test_a_truncated_file_is_found_without_reading_it_and_repaired(store: Store) -> None:
    whole = file_contents(store)
    for name, data in whole.items():
        store.storage.put(name, [data[:-1]])
        assert [issue.name for issue in verify(reopen(store))] == [name]
        repair(reopen(store))
        assert file_contents(extract_again(store)) == whole, name


def test_a_deleted_file_is_found_and_repaired(store: Store) -> None:
    whole = file_contents(store)
    for name in whole:
        store.storage.delete([name])
        actual = list(verify(reopen(store)))
        assert [(issue.name, issue.found) for issue in actual] == [(name, "is missing")]
        repair(reopen(store))
        assert file_contents(extract_again(store)) == whole, name


def test_damage_to_everything_at_once_is_repaired(store: Store) -> None:
    whole = file_contents(store)
    for name, data in whole.items():
        store.storage.put(name, [data[:-3] + b"???"])
    for _ in range(2):  # other files can be checked once spec.json is restored
        repair(reopen(store))
        extract_again(store)
    assert file_contents(store) == whole


def test_repair_keeps_intact_shards(store: Store) -> None:
    name = store.format.extent(store.spec, 2).name
    store.storage.put(name, [b"short"])
    issues = repair(reopen(store))
    assert [issue.name for issue in issues] == [name]
    assert reopen(store).missing_shards() == [2]


def test_a_record_of_another_store_is_found_and_repaired(store: Store) -> None:
    whole = file_contents(store)
    stranger = finished_store(store.location.replace("/s.", "/other."), encoder="vit-l16")
    store.storage.put(
        store.commit_record_name(1), [stranger.storage.read(store.commit_record_name(1))]
    )
    assert "other settings" in next(iter(verify(reopen(store)))).found
    repair(reopen(store))
    assert file_contents(extract_again(store)) == whole


def test_keys_that_a_wrong_header_vouches_for_are_found_by_their_digest(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
    whole = file_contents(store)
    chunk = store.storage.read("keys/c/0").replace(KEYS[0].encode(), KEYS[0][::-1].encode(), 1)
    store.storage.put("keys/c/0", [chunk])

    def vouch(fields: dict[str, Any]) -> None:
        fields["files"]["keys/c/0"] = size_and_checksum([chunk])

    edit_json(store, "spec.json", vouch)
    assert reopen(store).keys[0] == KEYS[0][::-1]
    assert list(verify(reopen(store))) == []
    assert [issue.found for issue in verify_deep(reopen(store))] == [OTHER_KEYS]
    repair(reopen(store))
    assert file_contents(extract_again(store)) == whole
