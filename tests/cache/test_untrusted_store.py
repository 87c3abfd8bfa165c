"""Malicious stores: nothing outside is deleted, nothing blocks, no memory is allocated."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store, delete_store
from epalm.cache.maintenance.verify import repair, verify, verify_deep
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.storage.checksummed_json import dump_checksummed
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, StoreError
from tests.cache.helpers import KEYS, edit_json, file_contents, fill, finished_store, reopen, spec

FORMATS = ("s.zarr", "s.h5")


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return finished_store(tmp_path / request.param)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user outside any store."""
    file = tmp_path / "mine" / "thesis.txt"
    file.parent.mkdir()
    file.write_text("years of work")
    return file


def copy_commit_record(store: Store) -> None:
    """Delete the files of shard 2, and copy the commit record of shard 1 over its own."""
    store.storage.put(
        store.commit_record_name(2), [store.storage.read(store.commit_record_name(1))]
    )
    store.storage.delete(store.format.shard_files(2))


def drop_shard_numbers(store: Store) -> None:
    """Turn all commit records into those of earlier versions."""
    for shard in range(3):
        edit_json(store, f"done/{shard:05d}.json", lambda fields: fields.pop("shard"))


@pytest.mark.parametrize("old", [False, True], ids=["numbered", "earlier-version"])
def test_a_copied_commit_record_does_not_hide_a_missing_shard(store: Store, *, old: bool) -> None:
    whole = file_contents(store)
    copy_commit_record(store)
    if old:
        drop_shard_numbers(store)
    issues = [(issue.name, issue.found) for issue in verify(reopen(store))]
    assert issues == [(store.commit_record_name(2), "is the record of another shard")]
    with pytest.raises(CorruptShardError, match=r"00002\.json is the record of another shard"):
        open_reader(reopen(store), reader="ram")
    repair(reopen(store))
    if not old:
        fill(create_store(store.location, spec(), KEYS)).finish()
        assert file_contents(store) == whole


def test_commit_records_of_earlier_versions_without_a_shard_number_are_read(store: Store) -> None:
    drop_shard_numbers(store)
    assert list(verify_deep(reopen(store))) == []
    assert len(open_reader(reopen(store), reader="ram").read(KEYS[:3])) == 3


def test_a_commit_record_with_another_shard_number_is_refused(store: Store) -> None:
    edit_json(store, "done/00001.json", lambda fields: fields.update(shard=2))
    assert [issue.name for issue in verify(reopen(store))] == [store.commit_record_name(1)]


@pytest.mark.parametrize("name", ["../../mine/thesis.txt", "{}/mine/thesis.txt"])
def test_repair_deletes_no_file_outside_the_store(
    store: Store, victim: Path, tmp_path: Path, name: str
) -> None:
    outside = name.format(tmp_path)
    edit_json(
        store, "done/00000.json", lambda fields: fields["files"].update({outside: [1, "00000000"]})
    )
    assert [issue.name for issue in repair(reopen(store))] == [store.commit_record_name(0)]
    assert victim.read_text() == "years of work"


@pytest.mark.parametrize("folder", ["done", "put", "media"])
def test_no_command_deletes_files_through_a_symbolic_link_inside_a_store(
    store: Store, victim: Path, folder: str
) -> None:
    inside = Path(str(store.storage)) / store.private_name(folder)
    if inside.exists():
        inside.rename(inside.with_name("away"))
    inside.symlink_to(victim.parent)
    for command in (repair, Store.finish, delete_store, lambda store: list(verify(store))):
        try:
            command(reopen(store))
        except StoreError as error:
            assert "is a symbolic link" in str(error) or "are missing" in str(error)
    assert victim.read_text() == "years of work"


def test_delete_store_refuses_a_linked_store(store: Store, tmp_path: Path) -> None:
    for path in map(Path, store.format.paths(store.location)):
        real = tmp_path / "disk" / path.name
        real.parent.mkdir(exist_ok=True)
        path.rename(real)
        path.symlink_to(real)
        whole = file_contents(reopen(store))
        with pytest.raises(StoreError, match=r"is a symbolic link to .*disk/.* remove the link"):
            delete_store(reopen(store))
        assert file_contents(reopen(store)) == whole
        path.unlink()
        real.rename(path)


def test_a_linked_zarr_store_is_read_and_completed_through_the_link(tmp_path: Path) -> None:
    real = finished_store(tmp_path / "real.zarr")
    (tmp_path / "s.zarr").symlink_to(tmp_path / "real.zarr")
    real.storage.delete([real.commit_record_name(1), *real.format.shard_files(1)])
    fill(create_store(tmp_path / "s.zarr", spec(), KEYS)).finish()
    assert list(verify_deep(Store.at(real.location))) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 10**13),
        ("count", -5),
        ("count", 0),
        ("count", 1.5),
        ("count", float("nan")),
        ("count", "150"),
        ("count", True),
        ("count", 10**9),
        ("views", 10**12),
        ("views", 0),
        ("positions", -1),
        ("width", 10**9),
        ("width", [4]),
        ("layers", [10**12]),
        ("layers", [-1]),
        ("layers", "01"),
        ("layers", list(range(20_000))),
        ("shard_rows", 64 * 10**12),
        ("shard_rows", -64),
        ("dtype", "object"),
        ("dtype", 5),
        ("fingerprint", "weights"),
        ("fingerprint", {"weights": 5}),
        ("tasks", {"vqa2": 1}),
        ("tasks", [["vqa2"]]),
        ("data_root", None),
        ("version", "1"),
    ],
)
def test_an_impossible_spec_is_refused_at_once(store: Store, field: str, value: object) -> None:
    edit_json(store, "spec.json", lambda fields: fields["spec"].update({field: value}))
    start = time.process_time()
    for read in (lambda store: store.spec, lambda store: list(verify(store)), Store.missing_shards):
        with pytest.raises(StoreError) as raised:
            read(reopen(store))
        assert "\n" not in str(raised.value)
        assert store.location in str(raised.value)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("fields", [5, [], {}, {"spec": {}}, {"spec": 5, "store": 1, "files": {}}])
def test_json_that_is_not_a_spec_is_refused(store: Store, fields: object) -> None:
    data = dump_checksummed(fields) if isinstance(fields, dict) else json.dumps(fields).encode()
    store.storage.put(store.private_name("spec.json"), [data])
    with pytest.raises(StoreError):
        Store.open(store.location)


def test_deeply_nested_json_is_reported_as_damage(store: Store) -> None:
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    store.storage.put(store.private_name("spec.json"), [deep])
    with pytest.raises(CorruptShardError, match="is damaged"):
        Store.open(store.location)


@pytest.mark.parametrize(
    "files",
    [
        {"cls": "x"},
        {"../x": [1]},
        [],
        {"a": [1, 2, 3]},
        {"a": ["1", "00000000"]},
        {"a": [-1, "00000000"]},
        {"a": [1 << 63, "00000000"]},
        {"a": [1, "../../x"]},
    ],
)
def test_a_commit_record_with_invalid_files_is_refused(store: Store, files: object) -> None:
    edit_json(store, "done/00000.json", lambda fields: fields.update(files=files))
    with pytest.raises(CorruptShardError, match="is not a commit record"):
        reopen(store).commit_record(0)
    assert [issue.name for issue in verify(reopen(store))] == [store.commit_record_name(0)]


def test_a_commit_record_whose_reason_is_not_text_is_refused(store: Store) -> None:
    edit_json(store, "done/00000.json", lambda fields: fields.update(errors={KEYS[0]: 5}))
    with pytest.raises(CorruptShardError, match="is not a commit record"):
        reopen(store).commit_record(0)


def test_a_commit_record_with_an_unknown_key_is_refused(store: Store) -> None:
    edit_json(store, "done/00000.json", lambda fields: fields.update(errors={"stranger": "gone"}))
    with pytest.raises(CorruptShardError, match="names 'stranger', which is not in the store"):
        open_reader(reopen(store))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_in_place_of_a_file_does_not_block(store: Store) -> None:
    root = Path(str(store.storage))
    for name in (store.format.shard_files(0)[0], store.commit_record_name(1)):
        (root / name).unlink()
        os.mkfifo(root / name)
    with pytest.raises(StoreError, match="is not a regular file"):
        reopen(store).check_shard(0)
    with pytest.raises(StoreError, match="is not a regular file"):
        reopen(store).commit_record(1)


@pytest.mark.parametrize("reader", ["ram", "mapped", "pread", "stream"])
def test_a_shard_smaller_than_its_spec_claims_allocates_no_memory(
    store: Store, reader: str
) -> None:
    """Spec, digest and keys agree, but the files of the commit records are small."""
    large = spec(width=60_000, views=100)
    header = StoreHeader.make(
        large, KEYS, {name: store.storage.read(name) for name in store.header.files}
    )
    store.storage.put(store.private_name("spec.json"), [header.to_bytes()])
    for shard in range(3):
        edit_json(store, f"done/{shard:05d}.json", lambda fields: fields.update(store=header.store))
    with pytest.raises(StoreError):
        open_reader(reopen(store), reader=reader, budget=10**12).read(KEYS[:2])


def test_a_store_truncated_while_mapped_is_an_error(store: Store) -> None:
    reader = open_reader(store, reader="mapped")
    before = np.array(reader.read(KEYS[:4]))
    file = Path(str(store.storage)) / store.format.shard_files(0)[0]
    os.truncate(file, 100)
    with pytest.raises(CorruptShardError, match=r"shard 0 of .* became shorter while it was read"):
        reader.read(KEYS[:4])
    assert np.isfinite(before).all()


@pytest.mark.parametrize("name", ["spec.json", "done/00000.json"])
@pytest.mark.parametrize("text", [b"", b"null", b"[" * 100_000])
def test_an_empty_or_deeply_nested_json_file_is_damage_and_is_repaired(
    store: Store, name: str, text: bytes
) -> None:
    """A power failure can leave an empty file."""
    store.storage.put(store.private_name(name), [text])
    assert store.private_name(name) in [issue.name for issue in verify(reopen(store))]
    with pytest.raises(StoreError):
        open_reader(reopen(store), reader="ram")
    repair(reopen(store))
    fill(create_store(store.location, spec(), KEYS)).finish()
    assert list(verify_deep(reopen(store))) == []
