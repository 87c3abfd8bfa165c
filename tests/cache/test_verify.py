"""Any damage to any file is found, and repair and another extraction bring the same bytes back."""

import random
from pathlib import Path

import pytest

from epalm.cache.create_store import create_store
from epalm.cache.store import Store
from epalm.cache.verify import repair, verify, verify_deep
from tests.cache.helpers import KEYS, LOCATIONS, contents, fill, finished, spec

PLACES = LOCATIONS[:3]


@pytest.fixture(params=PLACES, ids=["zarr", "hdf5", "remote-zarr"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    return finished(str(request.param).format(tmp_path))


def again(store: Store) -> Store:
    """The same extraction once more."""
    made = fill(create_store(store.location, spec(), KEYS))
    made.finish()
    return made


def anew(store: Store) -> Store:
    """The store as a new process sees it."""
    return Store.at(store.location)


def test_a_sound_store_has_no_problems(store: Store) -> None:
    assert list(verify(store)) == list(verify_deep(store)) == []


def test_an_unfinished_store_has_no_problems(tmp_path: Path) -> None:
    half = fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [1])
    assert list(verify_deep(half)) == []


def test_a_flipped_bit_in_any_file_is_found_and_repaired(store: Store) -> None:
    whole = contents(store)
    for name, data in whole.items():
        for place in {0, len(data) // 2, len(data) - 1}:
            flipped = bytearray(data)
            flipped[place] ^= 1 << (place % 8)
            store.storage.put(name, [bytes(flipped)])
            assert [problem.name for problem in verify_deep(anew(store))] == [name], place
            repair(anew(store))
            assert contents(again(store)) == whole, name


@pytest.mark.slow
def test_each_of_many_random_bits_is_missed(store: Store) -> None:
    chance = random.Random(0)
    whole = contents(store)
    for _ in range(1500):
        name = chance.choice(list(whole))
        flipped = bytearray(whole[name])
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        store.storage.put(name, [bytes(flipped)])
        assert [problem.name for problem in verify_deep(anew(store))] == [name]
        store.storage.put(name, [whole[name]])


def test_a_truncated_file_is_found_without_reading_it_and_repaired(store: Store) -> None:
    whole = contents(store)
    for name, data in whole.items():
        store.storage.put(name, [data[:-1]])
        assert [problem.name for problem in verify(anew(store))] == [name]
        repair(anew(store))
        assert contents(again(store)) == whole, name


def test_a_deleted_file_is_found_and_repaired(store: Store) -> None:
    whole = contents(store)
    for name in whole:
        store.storage.delete([name])
        found = list(verify(anew(store)))
        assert [(problem.name, problem.found) for problem in found] == [(name, "is missing")]
        repair(anew(store))
        assert contents(again(store)) == whole, name


def test_damage_to_everything_at_once_is_repaired(store: Store) -> None:
    whole = contents(store)
    for name, data in whole.items():
        store.storage.put(name, [data[:-3] + b"???"])
    for _ in range(2):  # what spec.json says of other files is known once it is whole again
        repair(anew(store))
        again(store)
    assert contents(store) == whole


def test_repair_keeps_sound_shards(store: Store) -> None:
    name = store.format.extent(store.spec, 2).name
    store.storage.put(name, [b"short"])
    problems = repair(anew(store))
    assert [problem.name for problem in problems] == [name]
    assert anew(store).missing_shards() == [2]


def test_a_record_of_another_store_is_found_and_repaired(store: Store) -> None:
    whole = contents(store)
    stranger = finished(store.location.replace("/s.", "/other."), encoder="vit-l16")
    store.storage.put(
        store.commit_record_name(1), [stranger.storage.read(store.commit_record_name(1))]
    )
    assert "other settings" in next(iter(verify(anew(store)))).found
    repair(anew(store))
    assert contents(again(store)) == whole
