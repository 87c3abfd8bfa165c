"""Keys of malicious stores: no other file is read, nothing is decompressed."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.store import Store
from epalm.errors import CorruptShardError
from tests.cache.helpers import KEYS, edit_json, finished_store


def replace_initial_file(store: Store, name: str, data: bytes) -> None:
    store.storage.put(name, [data])
    edit_json(
        store, "spec.json", lambda fields: fields["files"].update({name: size_and_checksum([data])})
    )


def external_link(main: h5py.File, other: Path) -> None:
    main["keys"] = h5py.ExternalLink(str(other), "keys")


def external_file(main: h5py.File, other: Path) -> None:
    main.create_dataset("keys", (150,), "S1", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(main: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((150,), h5py.string_dtype())
    layout[:] = h5py.VirtualSource(str(other), "keys", (150,))
    main.create_virtual_dataset("keys", layout)


def compressed(main: h5py.File, other: Path) -> None:
    del other
    main.create_dataset("keys", data=KEYS, dtype=h5py.string_dtype(), compression="gzip")


def soft_link(main: h5py.File, other: Path) -> None:
    del other
    main["keys"] = h5py.SoftLink("/elsewhere")


@pytest.mark.parametrize("make", [external_link, external_file, virtual, compressed, soft_link])
def test_keys_of_an_hdf5_store_are_read_only_from_its_own_file(
    tmp_path: Path, make: Callable[[h5py.File, Path], None]
) -> None:
    store = finished_store(tmp_path / "s.h5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file.create_dataset("keys", data=KEYS, dtype=h5py.string_dtype())
    with h5py.File(tmp_path / "s.h5", "r+") as main:
        del main["keys"]
        make(main, other)
    replace_initial_file(store, "../s.h5", (tmp_path / "s.h5").read_bytes())
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
def test_keys_of_a_zarr_store_are_read_with_only_one_codec(
    tmp_path: Path, field: str, value: object
) -> None:
    store = finished_store(tmp_path / "s.zarr")
    metadata = json.loads(store.storage.read("keys/zarr.json")) | {field: value}
    replace_initial_file(store, "keys/zarr.json", json.dumps(metadata).encode())
    with pytest.raises(CorruptShardError, match="its keys cannot be read"):
        _ = Store.open(tmp_path / "s.zarr").keys


def test_a_chunk_of_keys_with_a_wrong_count_is_refused(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
    data = store.storage.read("keys/c/0")
    replace_initial_file(store, "keys/c/0", (2**32 - 1).to_bytes(4, "little") + data[4:])
    with pytest.raises(CorruptShardError, match=r"has 4294967295 strings, expected 150"):
        _ = Store.open(tmp_path / "s.zarr").keys
