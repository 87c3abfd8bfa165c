"""Stores that grow in steps, in both formats, in a local folder and on a remote file system."""

import errno
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from epalm.cache.maintenance.grow import open_to_extract
from epalm.cache.maintenance.verify import repair, verify, verify_deep
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, CorruptShardError, StoreError, UnknownKeyError
from tests.cache.helpers import LOCATIONS, file_contents, reopen, spec

KEYS = [f"é/{row}.jpg" for row in range(400)]
BROKEN = {KEYS[3]: "truncated", KEYS[131]: "empty", KEYS[140]: "no image"}
STEPS = (100, 101, 128, 140, 270, 400)
"""Number of rows after each step; shards have 64 rows, so some steps end within one."""


@pytest.fixture(params=LOCATIONS, ids=["zarr", "hdf5", "remote-zarr", "remote-hdf5"])
def location(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    return str(request.param).format(tmp_path)


def features_of(keys: Sequence[str]) -> np.ndarray:
    """(keys, 1, 2, 4) features that depend on the key alone."""
    rows = [np.random.default_rng(KEYS.index(key)).normal(size=(1, 2, 4)) for key in keys]
    return np.array(rows, np.float32)


def open_for(location: str, keys: Sequence[str], **options: object) -> Store:
    wanted = spec(count=len(keys))
    return open_to_extract(location, wanted, keys, **options)[0]  # type: ignore[arg-type]


def fill(store: Store, shards: Iterable[int] | None = None) -> Store:
    """Write missing shards, as an extraction does: rows that are there are not computed again."""
    for shard in store.missing_shards() if shards is None else shards:
        rows = store.spec.rows_of(shard)
        keys = store.keys[rows.start : rows.stop]
        features = features_of(keys).astype(np.float16)
        if shorter := store.shorter_generation(shard):
            known = shorter.load_shard(shard)
            features[: len(known)] = known
        store.write_shard(shard, features, {key: BROKEN[key] for key in keys if key in BROKEN})
    return store


def grown(location: str, steps: Iterable[int] = STEPS) -> Store:
    store = Store.at(location)
    for count in steps:
        store = fill(open_for(location, KEYS[:count]))
        store.finish()
    return store


def values(keys: Sequence[str]) -> np.ndarray:
    expected = features_of(keys).astype(np.float16)
    expected[[key in BROKEN for key in keys]] = np.nan
    return expected


def assert_sound(store: Store) -> None:
    assert not list(verify_deep(reopen(store)))


def test_a_shard_that_has_grown_finds_the_rows_that_it_had(location: str) -> None:
    grown(location, [100])
    store = open_for(location, KEYS[:140])
    assert store.missing_shards() == [1, 2]
    shorter = store.shorter_generation(1)
    assert shorter is not None
    assert shorter.spec.count == 100
    assert np.array_equal(shorter.load_shard(1), values(KEYS[64:100]), equal_nan=True)
    assert [store.missing_rows(shard) for shard in (1, 2)] == [28, 12]
    assert [store.shorter_generation(shard) for shard in (0, 2)] == [None, None]


def test_every_step_adds_rows_after_those_that_are_there(location: str) -> None:
    for count in STEPS:
        grown(location, [count])
        store = Store.open(location)
        assert store.keys == tuple(KEYS[:count])
        assert store.spec.count == count
        shards = [store.load_shard(shard) for shard in range(store.spec.shards)]
        assert np.array_equal(np.concatenate(shards), values(KEYS[:count]), equal_nan=True)
        assert store.failed_samples() == {k: BROKEN[k] for k in KEYS[:count] if k in BROKEN}
        assert_sound(store)


def test_a_store_grown_in_steps_has_the_arrays_of_one_written_at_once(tmp_path: Path) -> None:
    """As the libraries read them."""
    for count in STEPS:
        grown(str(tmp_path / "s.zarr"), [count])
        grown(str(tmp_path / "s.h5"), [count])
        group = zarr.open_group(tmp_path / "s.zarr", mode="r")
        arrays = {name: np.asarray(group[name][:]) for name in ("cls", "keys", "valid")}  # type: ignore[index]
        with h5py.File(tmp_path / "s.h5") as main:
            twin = {name: main[name][:] for name in ("cls", "valid")}
            twin["keys"] = main["keys"].asstr()[:]
        for read in (arrays, twin):
            assert np.array_equal(read["cls"], values(KEYS[:count]), equal_nan=True)
            assert read["keys"].tolist() == KEYS[:count]
            assert read["valid"].tolist() == [key not in BROKEN for key in KEYS[:count]]


@pytest.mark.parametrize("steps", [(100,), (100, 140)], ids=["whole", "grown"])
def test_a_finished_store_is_opened_and_finished_again_on_a_read_only_disk(
    location: str, steps: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = type(grown(location, steps).storage)

    def refuse(_self: object, name: str, *_parts: object) -> None:
        raise OSError(errno.EROFS, name)

    monkeypatch.setattr(storage, "put", refuse)
    monkeypatch.setattr(storage, "put_new", refuse)
    store = open_for(location, KEYS[: steps[-1]])
    assert store.finish() == sum(KEYS.index(key) < steps[-1] for key in BROKEN)
    store.storage.delete([store.private_name("errors.jsonl")])
    with pytest.raises((StoreError, OSError), match=r"errors\.jsonl"):  # which is missing now
        store.finish()


def test_full_shards_are_never_written_again(location: str) -> None:
    grown(location, [270])
    before = file_contents(Store.open(location))
    grown(location, [400])
    after = file_contents(Store.open(location))
    parts = [f"{shard:05d}" for shard in range(4)]
    parts += [f"{array}/c/{shard}" for array in ("cls", "valid") for shard in range(4)]
    full = {name for name in before if any(part in name for part in (*parts, "spec.json"))}
    assert len(full) >= 9
    assert {name: after[name] for name in full} == {name: before[name] for name in full}


def test_files_of_shorter_versions_are_deleted(location: str) -> None:
    names = set(file_contents(grown(location)))
    versions = {Path(name).stem for name in names if "-" in name}
    assert versions == {"00001-64", "00002-64", "00004-64"}
    assert sum("keys/c" in name for name in names) <= 1


def test_files_of_a_shorter_version_that_was_never_finished_are_deleted(location: str) -> None:
    grown(location, [100])
    store = open_for(location, KEYS[:110])
    version = store.version_of(1)
    assert version.name == "00001-46"
    orphans = {*store.format.shard_files(1, version.name), store.media_name_of(version)}
    for name in orphans - {"cls/c/1/0/0/0", "valid/c/1"}:  # as a writer that is killed leaves them
        store.storage.put(name, [b"..."])
    names = set(file_contents(grown(location, [120])))
    assert not [name for name in names if "00001-46" in name]


def test_new_samples_in_the_middle_of_the_dataset_come_last(location: str) -> None:
    grown(location, [100])
    reordered = [KEYS[300], *KEYS[50:100], *KEYS[200:210], *KEYS[:50]]
    store, change = open_to_extract(location, spec(count=len(reordered)), reordered)
    assert change.new == (KEYS[300], *KEYS[200:210])
    assert change.absent == ()
    fill(store).finish()
    assert Store.open(location).keys == (*KEYS[:100], KEYS[300], *KEYS[200:210])
    assert_sound(store)


def test_samples_that_the_dataset_lost_keep_their_rows(location: str) -> None:
    grown(location, [100])
    store, change = open_to_extract(location, spec(count=105), KEYS[5:110])
    assert change.absent == tuple(KEYS[:5])
    fill(store).finish()
    assert Store.open(location).keys == tuple(KEYS[:110])


@pytest.mark.parametrize("keys", [KEYS[:80], KEYS[90:190], KEYS[11:300]])
def test_a_dataset_without_many_samples_of_the_store_is_refused(
    location: str, keys: Sequence[str]
) -> None:
    before = file_contents(grown(location, [100]))
    with pytest.raises(CacheMismatchError, match=r"the dataset lacks \d+ of the 100 samples of"):
        open_for(location, keys)
    assert file_contents(Store.open(location)) == before
    assert open_for(location, keys, changed="grow").spec.count >= 100


def test_refuse_allows_no_other_samples_and_another_order(location: str) -> None:
    grown(location, [100])
    for keys in (KEYS[:101], KEYS[:99]):
        with pytest.raises(CacheMismatchError, match="--changed-dataset refuse allows none"):
            open_for(location, keys, changed="refuse")
    assert open_for(location, KEYS[99::-1], changed="refuse").keys == tuple(KEYS[:100])


def test_other_settings_are_refused_and_named(location: str) -> None:
    grown(location, [100])
    other = spec(count=120, encoder="vit-l16", shard_rows=128)
    with pytest.raises(CacheMismatchError) as caught:
        open_to_extract(location, other, KEYS[:120])
    assert "encoder is vit-b16, expected vit-l16" in str(caught.value)
    assert "count" not in str(caught.value)
    assert "shard_rows" not in str(caught.value)


def test_an_unfinished_growth_is_read_as_before(location: str) -> None:
    grown(location, [100])
    for shards in ([], [1], [1, 2]):
        fill(open_for(location, KEYS[:190]), shards)
        store = Store.open(location)
        assert (store.spec.count, store.growing) == (100, 90)
        assert store.missing_shards() == []
        assert store.latest().missing_shards() == [n for n in (1, 2) if n not in shards]
        assert len(store.failed_samples()) == 1
        reader = open_reader(store)
        readable = [key for key in KEYS[:100] if key not in BROKEN]
        assert np.array_equal(reader.read(readable), values(readable)[:, 0])
        with pytest.raises(UnknownKeyError, match="run the same `epalm-extract` command again"):
            reader.rows([KEYS[150]])
        if len(shards) < 2:
            assert_sound(store)
    store.latest().finish()
    assert_sound(store)
    assert Store.open(location).spec.count == 190


def test_a_writer_killed_before_the_record_of_a_longer_shard_leaves_the_store_sound(
    location: str,
) -> None:
    grown(location, [100])
    store = open_for(location, KEYS[:190])
    names = store.storage.names(store.private_name("done"))
    records = {name: store.storage.read(name) for name in names}
    fill(store, [1])
    store.storage.delete([store.commit_record_name(1)])
    for name, record in records.items():
        store.storage.put(name, [record])
    readable = [key for key in KEYS[:100] if key not in BROKEN]
    reader = open_reader(Store.open(location))
    assert np.array_equal(reader.read(readable), values(readable)[:, 0])
    assert_sound(store)
    fill(open_for(location, KEYS[:190])).finish()
    assert_sound(store)
    assert Store.open(location).keys == tuple(KEYS[:190])


def test_an_unfinished_growth_is_read_as_before_by_the_libraries(tmp_path: Path) -> None:
    for name in ("s.zarr", "s.h5"):
        grown(str(tmp_path / name), [100])
        fill(open_for(str(tmp_path / name), KEYS[:190]), [1])
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert np.array_equal(group["cls"][:], values(KEYS[:100]), equal_nan=True)  # type: ignore[index,arg-type]
    assert np.asarray(group["keys"][:]).tolist() == KEYS[:100]  # type: ignore[index]
    with h5py.File(tmp_path / "s.h5") as main:
        assert np.array_equal(main["cls"][:], values(KEYS[:100]), equal_nan=True)
        assert main["keys"].asstr()[:].tolist() == KEYS[:100]


def test_a_growth_that_was_interrupted_grows_further(location: str) -> None:
    grown(location, [100])
    fill(open_for(location, KEYS[:110]), [1])
    fill(open_for(location, KEYS[:120]), [])
    fill(open_for(location, KEYS[:300])).finish()
    store = Store.open(location)
    assert store.generations.counts == (100, 110, 120, 300)
    assert_sound(store)
    assert store.keys == tuple(KEYS[:300])


def test_a_store_that_was_never_finished_grows(location: str) -> None:
    fill(open_for(location, KEYS[:100]), [0])
    store = open_for(location, KEYS[:200])
    assert store.missing_shards() == [1, 2, 3]
    fill(store).finish()
    assert Store.open(location).keys == tuple(KEYS[:200])
    assert_sound(store)


@pytest.mark.parametrize("count", STEPS)
def test_an_earlier_generation_is_read_from_the_grown_store(location: str, count: int) -> None:
    store = grown(location)
    part = store.in_generation(STEPS.index(count))
    assert part.keys == tuple(KEYS[:count])
    assert part.spec.comparable() == spec(count=count).comparable()
    shards = [part.load_shard(shard) for shard in range(part.spec.shards)]
    assert np.array_equal(np.concatenate(shards), values(KEYS[:count]), equal_nan=True)
    assert part.failed_samples() == {key: BROKEN[key] for key in KEYS[:count] if key in BROKEN}


@pytest.mark.parametrize("reader", ["ram", "pread", "mapped", "stream"])
def test_every_reader_reads_an_earlier_generation(location: str, reader: str) -> None:
    part = grown(location, [100, 150]).in_generation(0)
    keys = [key for key in KEYS[:100] if key not in BROKEN]
    assert np.array_equal(open_reader(part, reader=reader).read(keys), values(keys)[:, 0])


def test_every_damaged_file_of_a_grown_store_is_found_and_repaired(location: str) -> None:
    whole = file_contents(grown(location))
    for name, data in whole.items():
        store = Store.at(location)
        store.storage.put(name, [data[:-1] + bytes([data[-1] ^ 1])])
        assert list(verify_deep(reopen(store))), name
        repair(reopen(store))
        fill(open_for(location, KEYS[: STEPS[-1]])).finish()
        assert file_contents(Store.open(location)) == whole, name


def test_every_lost_file_of_a_grown_store_is_restored(location: str) -> None:
    whole = file_contents(grown(location, [100, 150, 200]))
    for name in whole:
        store = Store.at(location)
        store.storage.delete([name])
        if "growth_copy" not in name:
            assert list(verify(reopen(store))), name
        repair(reopen(store))
        fill(open_for(location, KEYS[:200])).finish()
        assert file_contents(Store.open(location)) == whole, name


def test_growth_records_that_were_changed_by_hand_are_refused(location: str) -> None:
    store = grown(location, [100, 150])
    name = store.growth_record_name(1)
    first, *lines = store.storage.read(name).decode().splitlines()
    for edit in ({"count": 10**9}, {"store": "x"}, {"files": {"../x": [1, "../../x"]}}):
        store.storage.put(name, [json.dumps(json.loads(first) | edit).encode(), b"\n"])
        with pytest.raises(CorruptShardError):
            Store.open(location)
    store.storage.put(name, [first.encode(), *(f"\n{line}".encode() for line in lines[1:]), b"\n"])
    with pytest.raises(CorruptShardError, match="checksum differs"):
        Store.open(location)


def test_processes_that_grow_a_store_at_once_add_the_same_rows(location: str) -> None:
    grown(location, [100])
    stores = [open_for(location, KEYS[:200]) for _ in range(3)]
    assert {store.generations.counts for store in stores} == {(100, 200)}
    fill(stores[0], [1])
    fill(stores[1], [2])
    fill(stores[2]).finish()
    assert_sound(stores[0])


def test_a_process_with_an_older_list_cannot_spoil_a_longer_shard(location: str) -> None:
    older = open_for(location, KEYS[:100])
    fill(older, [0])
    fill(open_for(location, KEYS[:120])).finish()
    fill(older, [1])  # overwrites the file of the version with more rows
    older.finish()
    fill(open_for(location, KEYS[:120])).finish()
    assert_sound(older)
    assert Store.open(location).keys == tuple(KEYS[:120])
