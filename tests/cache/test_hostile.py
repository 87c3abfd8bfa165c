"""Stores that somebody made to do harm: nothing is deleted, awaited or allocated for them."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from epalm.cache.create_store import create_store, delete_store
from epalm.cache.readers.open_reader import open_reader
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.cache.store import Store
from epalm.cache.verify import repair, verify, verify_deep
from epalm.errors import CorruptShardError, StoreError
from tests.cache.helpers import KEYS, contents, fill, finished, spec

FORMATS = ("s.zarr", "s.h5")


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return finished(tmp_path / request.param)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user that no store has anything to do with."""
    file = tmp_path / "mine" / "thesis.txt"
    file.parent.mkdir()
    file.write_text("years of work")
    return file


def anew(store: Store) -> Store:
    return Store.at(store.location)


def change(store: Store, name: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit a sealed document and seal it again, as an attacker would."""
    fields = load_checksummed(store.storage.read(store.private_name(name)), name)
    edit(fields)
    store.storage.put(store.private_name(name), [dump_checksummed(fields)])


def swap(store: Store) -> None:
    """Lose shard 2's files and let a copy of shard 1's record hide it."""
    store.storage.put(
        store.commit_record_name(2), [store.storage.read(store.commit_record_name(1))]
    )
    store.storage.delete(store.format.shard_files(2))


def drop_number(store: Store) -> None:
    """Make all commit records those of the version that did not name the shard."""
    for shard in range(3):
        change(store, f"done/{shard:05d}.json", lambda fields: fields.pop("shard"))


@pytest.mark.parametrize("old", [False, True], ids=["numbered", "earlier-version"])
def test_a_copied_record_does_not_hide_a_lost_shard(store: Store, *, old: bool) -> None:
    whole = contents(store)
    swap(store)
    if old:
        drop_number(store)
    problems = [(one.name, one.found) for one in verify(anew(store))]
    assert problems == [(store.commit_record_name(2), "is the record of another shard")]
    with pytest.raises(CorruptShardError, match=r"00002\.json is the record of another shard"):
        open_reader(anew(store), reader="ram")
    repair(anew(store))
    if not old:
        fill(create_store(store.location, spec(), KEYS)).finish()
        assert contents(store) == whole


def test_records_of_the_version_without_a_number_are_read(store: Store) -> None:
    drop_number(store)
    assert list(verify_deep(anew(store))) == []
    assert len(open_reader(anew(store), reader="ram").read(KEYS[:3])) == 3


def test_a_record_that_names_another_shard_is_refused_though_its_files_fit(store: Store) -> None:
    change(store, "done/00001.json", lambda fields: fields.update(shard=2))
    assert [one.name for one in verify(anew(store))] == [store.commit_record_name(1)]


@pytest.mark.parametrize("name", ["../../mine/thesis.txt", "{}/mine/thesis.txt"])
def test_repair_deletes_no_file_that_is_not_the_stores(
    store: Store, victim: Path, tmp_path: Path, name: str
) -> None:
    outside = name.format(tmp_path)
    change(
        store, "done/00000.json", lambda fields: fields["files"].update({outside: [1, "00000000"]})
    )
    assert [one.name for one in repair(anew(store))] == [store.commit_record_name(0)]
    assert victim.read_text() == "years of work"


@pytest.mark.parametrize("folder", ["done", "put", "media"])
def test_nothing_behind_a_link_in_a_store_is_deleted(
    store: Store, victim: Path, folder: str
) -> None:
    inside = Path(str(store.storage)) / store.private_name(folder)
    if inside.exists():
        inside.rename(inside.with_name("away"))
    inside.symlink_to(victim.parent)
    for work in (repair, lambda it: it.finish(), delete_store, lambda it: list(verify(it))):
        try:
            work(anew(store))
        except StoreError as error:
            assert "is a symbolic link" in str(error) or "are missing" in str(error)
    assert victim.read_text() == "years of work"


def test_fresh_refuses_a_linked_store_and_deletes_nothing(store: Store, tmp_path: Path) -> None:
    for path in map(Path, store.format.paths(store.location)):
        real = tmp_path / "disk" / path.name
        real.parent.mkdir(exist_ok=True)
        path.rename(real)
        path.symlink_to(real)
        whole = contents(anew(store))
        with pytest.raises(StoreError, match=r"is a symbolic link to .*disk/.* remove the link"):
            delete_store(anew(store))
        assert contents(anew(store)) == whole
        path.unlink()
        real.rename(path)


def test_a_linked_zarr_store_is_read_and_repaired_behind_the_link(tmp_path: Path) -> None:
    real = finished(tmp_path / "real.zarr")
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
    change(store, "spec.json", lambda fields: fields["spec"].update({field: value}))
    began = time.process_time()
    for read in (lambda it: it.spec, lambda it: list(verify(it)), lambda it: it.missing_shards()):
        with pytest.raises(StoreError) as refused:
            read(anew(store))
        assert "\n" not in str(refused.value)
        assert store.location in str(refused.value)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("fields", [5, [], {}, {"spec": {}}, {"spec": 5, "store": 1, "files": {}}])
def test_another_document_than_a_spec_is_refused(store: Store, fields: object) -> None:
    data = dump_checksummed(fields) if isinstance(fields, dict) else json.dumps(fields).encode()
    store.storage.put(store.private_name("spec.json"), [data])
    with pytest.raises(StoreError):
        Store.open(store.location)


def test_json_that_is_nested_too_deeply_is_damage(store: Store) -> None:
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
        {"a": [1, "../../x"]},
    ],
)
def test_a_record_with_other_fields_is_no_record(store: Store, files: object) -> None:
    change(store, "done/00000.json", lambda fields: fields.update(files=files))
    with pytest.raises(CorruptShardError, match="is not a commit record"):
        anew(store).commit_record(0)
    assert [one.name for one in verify(anew(store))] == [store.commit_record_name(0)]


def test_a_record_about_a_key_that_is_not_in_the_store_is_refused(store: Store) -> None:
    change(store, "done/00000.json", lambda fields: fields.update(errors={"stranger": "gone"}))
    with pytest.raises(CorruptShardError, match="names 'stranger', which is not in the store"):
        open_reader(anew(store))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_file_is_not_waited_for(store: Store) -> None:
    root = Path(str(store.storage))
    for name in (store.format.shard_files(0)[0], store.commit_record_name(1)):
        (root / name).unlink()
        os.mkfifo(root / name)
    with pytest.raises(StoreError, match="is not a regular file"):
        anew(store).check_shard(0)
    with pytest.raises(StoreError, match="is not a regular file"):
        anew(store).commit_record(1)


def reseal_first_file(store: Store, name: str, data: bytes) -> None:
    store.storage.put(name, [data])
    change(
        store, "spec.json", lambda fields: fields["files"].update({name: size_and_checksum([data])})
    )


def external_link(front: h5py.File, other: Path) -> None:
    front["keys"] = h5py.ExternalLink(str(other), "keys")


def external_file(front: h5py.File, other: Path) -> None:
    front.create_dataset("keys", (150,), "S1", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(front: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((150,), h5py.string_dtype())
    layout[:] = h5py.VirtualSource(str(other), "keys", (150,))
    front.create_virtual_dataset("keys", layout)


def compressed(front: h5py.File, other: Path) -> None:
    del other
    front.create_dataset("keys", data=KEYS, dtype=h5py.string_dtype(), compression="gzip")


def soft_link(front: h5py.File, other: Path) -> None:
    del other
    front["keys"] = h5py.SoftLink("/elsewhere")


@pytest.mark.parametrize("make", [external_link, external_file, virtual, compressed, soft_link])
def test_keys_of_an_hdf5_store_come_from_its_own_file_alone(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    store = finished(tmp_path / "s.h5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("keys", data=KEYS, dtype=h5py.string_dtype())
    with h5py.File(tmp_path / "s.h5", "r+") as front:
        del front["keys"]
        make(front, other)
    reseal_first_file(store, "../s.h5", (tmp_path / "s.h5").read_bytes())
    with pytest.raises(CorruptShardError, match="its keys cannot be read"):
        _ = Store.open(tmp_path / "s.h5").keys


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [10**12]),
        ("codecs", [{"name": "vlen-utf8"}, {"name": "gzip", "configuration": {"level": 1}}]),
        ("codecs", [{"name": "numcodecs.pickle"}]),
        ("codecs", 5),
        ("data_type", "float64"),
        ("node_type", "group"),
    ],
)
def test_keys_of_a_zarr_store_are_unpacked_in_one_way_alone(
    tmp_path: Path, field: str, value: object
) -> None:
    store = finished(tmp_path / "s.zarr")
    about = json.loads(store.storage.read("keys/zarr.json")) | {field: value}
    reseal_first_file(store, "keys/zarr.json", json.dumps(about).encode())
    with pytest.raises(CorruptShardError, match="its keys cannot be read"):
        _ = Store.open(tmp_path / "s.zarr").keys


def test_a_chunk_of_keys_that_promises_more_texts_is_refused(tmp_path: Path) -> None:
    store = finished(tmp_path / "s.zarr")
    data = store.storage.read("keys/c/0")
    reseal_first_file(store, "keys/c/0", (2**32 - 1).to_bytes(4, "little") + data[4:])
    with pytest.raises(CorruptShardError, match=r"has 4294967295 strings, expected 150"):
        _ = Store.open(tmp_path / "s.zarr").keys


@pytest.mark.parametrize("reader", ["ram", "mapped", "pread", "stream"])
def test_a_shard_that_is_smaller_than_its_spec_says_takes_no_memory(
    store: Store, reader: str
) -> None:
    """Spec, digest and keys agree; the commit records are about small files."""
    large = spec(width=60_000, views=100)
    head = StoreHeader.make(
        large, KEYS, {name: store.storage.read(name) for name in store.header.files}
    )
    store.storage.put(store.private_name("spec.json"), [head.to_bytes()])
    for shard in range(3):
        change(store, f"done/{shard:05d}.json", lambda fields: fields.update(store=head.store))
    with pytest.raises(StoreError):
        open_reader(anew(store), reader=reader, budget=10**12).read(KEYS[:2])


def test_a_store_that_is_truncated_while_mapped_ends_with_one_line(store: Store) -> None:
    reader = open_reader(store, reader="mapped")
    before = np.array(reader.read(KEYS[:4]))
    file = Path(str(store.storage)) / store.format.shard_files(0)[0]
    os.truncate(file, 100)
    with pytest.raises(CorruptShardError, match=r"shard 0 of .* became shorter while it was read"):
        reader.read(KEYS[:4])
    assert np.isfinite(before).all()


@pytest.mark.parametrize("name", ["spec.json", "done/00000.json"])
@pytest.mark.parametrize("text", [b"", b"null", b"[" * 100_000])
def test_an_emptied_or_nested_document_is_damage_and_is_repaired(
    store: Store, name: str, text: bytes
) -> None:
    """Empty is what a power cut leaves of a file."""
    store.storage.put(store.private_name(name), [text])
    assert store.private_name(name) in [one.name for one in verify(anew(store))]
    with pytest.raises(StoreError):
        open_reader(anew(store), reader="ram")
    repair(anew(store))
    fill(create_store(store.location, spec(), KEYS)).finish()
    assert list(verify_deep(anew(store))) == []
