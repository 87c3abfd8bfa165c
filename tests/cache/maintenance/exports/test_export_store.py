"""Exports, read with the libraries that they are for and compared bit by bit."""

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.exports import export_store as exports
from epalm.cache.maintenance.exports.export_store import SUCCESS, export_store
from epalm.cache.storage import file_extent
from epalm.cache.storage.checksum import Part
from epalm.cache.storage.local_storage import LocalStorage
from epalm.cache.store import Store
from epalm.errors import StoreError, UnfinishedStoreError, UsageError
from tests.cache.helpers import BROKEN, COUNT, KEYS, fill, finished_store, random_features, spec

BROKEN_ROW = KEYS.index(BROKEN)

FORMATS = ["parquet", "safetensors", "lance"]


def export(store: Store, out: Path, name: str) -> exports.ExportReport:
    if name == "lance":
        pytest.importorskip("lance", reason="pylance is not installed")
    return export_store(store, str(out), name, tick=lambda *_: None)


def bits(features: np.ndarray) -> np.ndarray:
    return features.view({2: np.uint16, 4: np.uint32}[features.itemsize])


def from_arrow(table: pa.Table) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Keys, valid flags and features of an Arrow table; null features as NaN."""
    column = table["features"].combine_chunks()
    valid = np.asarray(table["valid"])
    present = np.asarray(column.drop_null().flatten())
    shape = json.loads(table.schema.field("features").metadata[b"shape"])
    features = np.full((len(table), *shape), np.nan, present.dtype)
    features[np.asarray(column.is_valid())] = present.reshape(-1, *shape)
    return table["key"].to_pylist(), valid, features


def read(out: Path, name: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """An export, read with the library of its format alone."""
    if name == "parquet":
        return from_arrow(pyarrow.dataset.dataset(out, format="parquet").to_table())
    if name == "lance":
        import lance

        return from_arrow(lance.dataset(out).to_table())
    keys: list[str] = []
    parts = []
    for file in sorted(out.glob("*.safetensors")):
        parts.append(load_file(file))
        with safe_open(file, "np") as opened:
            keys += json.loads(opened.metadata()["epalm"])["keys"]
    valid, features = (np.concatenate([part[n] for part in parts]) for n in ("valid", "features"))
    return keys, valid, features


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_librarys_own_reader_gives_the_same_bits(
    tmp_path: Path, name: str, suffix: str, dtype: str
) -> None:
    store = finished_store(tmp_path / f"s{suffix}", dtype=dtype, views=2)
    report = export(store, tmp_path / "out", name)
    assert (report.records, report.failed, report.shards, report.written) == (COUNT, 1, 3, 3)
    keys, valid, features = read(tmp_path / "out", name)
    assert keys == KEYS
    assert np.flatnonzero(~valid).tolist() == [BROKEN_ROW]
    assert np.isnan(features[BROKEN_ROW]).all()
    expected = random_features(dtype=dtype, views=2).astype(dtype)
    assert np.array_equal(bits(features[valid]), bits(expected[valid]))


@pytest.mark.parametrize("name", FORMATS)
def test_settings_fingerprint_and_reasons_are_kept(tmp_path: Path, name: str) -> None:
    store = finished_store(tmp_path / "s.zarr")
    export(store, tmp_path / "out", name)
    if name == "safetensors":
        with safe_open(tmp_path / "out/00001.safetensors", "np") as opened:
            metadata = json.loads(opened.metadata()["epalm"])
        reasons = metadata["errors"]
    else:
        if name == "lance":
            import lance

            table = lance.dataset(tmp_path / "out").to_table()
        else:
            table = pq.read_table(tmp_path / "out/00001.parquet")
        metadata = json.loads(table.schema.metadata[b"epalm"])
        rows = zip(table["key"].to_pylist(), table["error"].to_pylist(), strict=True)
        reasons = {key: error for key, error in rows if error is not None}
    assert metadata["spec"] == store.spec.comparable()
    assert metadata["spec"]["fingerprint.weights"] == "aa"
    assert metadata["store"] == store.header.store
    assert metadata["shape"] == [1, 2, 4]
    assert reasons == {BROKEN: "truncated"}


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_is_interrupted_at_any_write_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = finished_store(tmp_path / "s.zarr")
    export(store, tmp_path / "whole", name)
    original, out, left = LocalStorage.put, tmp_path / "out", [0]

    def put(storage: LocalStorage, file: str, parts: Sequence[Part]) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        original(storage, file, parts)

    monkeypatch.setattr(LocalStorage, "put", put)
    interruptions = 0
    for allowed in range(1, 20):
        left[0] = allowed
        try:
            export(Store.open(tmp_path / "s.zarr"), out, name)
            break
        except KeyboardInterrupt:
            interruptions += 1
            assert not (out / SUCCESS).exists()
    assert interruptions >= 2
    assert (out / SUCCESS).exists()
    expected, actual = read(tmp_path / "whole", name), read(out, name)
    assert expected[0] == actual[0]
    assert np.array_equal(bits(expected[2]), bits(actual[2]))
    if name == "lance":
        assert len(list((out / "data").iterdir())) == 3  # those of killed writers are deleted
    else:
        assert tree(out) == tree(tmp_path / "whole")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", FORMATS)
def test_only_what_changed_is_exported_again(tmp_path: Path, name: str) -> None:
    store = finished_store(tmp_path / "s.zarr")
    export(store, tmp_path / "out", name)
    assert export(store, tmp_path / "out", name).written == 0
    changed = store.load_shard(2) + np.float16(1)
    store.uncommit_shard(2)
    store.write_shard(2, changed, {})
    store.finish()
    if name != "lance":
        next((tmp_path / "out").glob("00000.*")).unlink()
    report = export(Store.open(tmp_path / "s.zarr"), tmp_path / "out", name)
    assert report.written == (1 if name == "lance" else 2)
    _, valid, features = read(tmp_path / "out", name)
    assert np.array_equal(bits(features[128:]), bits(changed))
    expected = random_features().astype(np.float16)
    assert np.array_equal(bits(features[:128][valid[:128]]), bits(expected[:128][valid[:128]]))


def test_parquet_row_groups_are_small_and_not_compressed(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", spec(count=2048, shard_rows=2048), big := keys(2048))
    store.write_shard(0, np.zeros((2048, 1, 2, 4), np.float16), {})
    store.finish()
    export(store, tmp_path / "out", "parquet")
    metadata = pq.ParquetFile(tmp_path / "out/00000.parquet").metadata
    assert [metadata.row_group(group).num_rows for group in range(2)] == [1024, 1024]
    assert metadata.row_group(0).column(3).compression == "UNCOMPRESSED"
    assert metadata.row_group(1).column(0).statistics.min == min(big[1024:])


def keys(count: int) -> list[str]:
    return [f"{row:06d}" for row in range(count)]


def test_one_shard_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_extent, "READ_BYTES", 1 << 16)
    big = spec(count=8 * 512, shard_rows=512, width=1024)
    store = create_store(tmp_path / "s.zarr", big, keys(big.count))
    for shard in range(8):
        store.write_shard(shard, np.ones((512, *big.row_shape), np.float16), {})
    store.finish()
    shard_bytes = 512 * big.row_bytes
    tracemalloc.start()
    try:
        export(store, tmp_path / "out", "safetensors")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4.5 * shard_bytes  # of 8: the features, the file, and a copy each


def test_another_store_another_format_and_other_files_are_refused(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
    export(store, tmp_path / "out", "parquet")
    with pytest.raises(
        StoreError, match=r"has an export in another format than safetensors \(parq"
    ):
        export(store, tmp_path / "out", "safetensors")
    with pytest.raises(StoreError, match=r"an export of another store, or .* samples: choose"):
        export(finished_store(tmp_path / "t.zarr", encoder="other"), tmp_path / "out", "parquet")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"has other files \(notes.txt, ...\)"):
        export(store, tmp_path / "mine", "parquet")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_an_unfinished_store_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    store = fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [0])
    with pytest.raises(UnfinishedStoreError, match="2 of 3 shards are missing"):
        export(store, tmp_path / "out", "parquet")
    assert not (tmp_path / "out").exists()


def test_a_url_is_written_by_parquet_and_refused_by_lance(tmp_path: Path) -> None:
    pytest.importorskip("lance", reason="pylance is not installed")
    store, out = finished_store(tmp_path / "s.zarr"), f"memory://{tmp_path.name}/out"
    assert export_store(store, out, "parquet", tick=lambda *_: None).written == 3
    with pytest.raises(UsageError, match="lance writes to a local folder"):
        export_store(store, f"{out}2", "lance", tick=lambda *_: None)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = finished_store(tmp_path / "s.zarr")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=r"file/out cannot be written .* exported shards are kept"):
        export(store, tmp_path / "file/out", "parquet")
