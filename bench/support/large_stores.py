"""Stores of many rows or shards that take little disk: features are holes in sparse files."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.zarr_format import ZarrFormat
from epalm.cache.records.commit_record import CommitRecord, errors_text
from epalm.cache.records.store_header import StoreHeader
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.checksum import Part, size_and_checksum
from epalm.cache.store import Store

WIDTH = 8

KEY_DIGITS = 10

WRITTEN_KEYS = 1 << 20
"""Keys that are made at a time."""


def large_spec(shards: int, shard_rows: int) -> StoreSpec:
    """The spec of a store of full shards; a row has 16 bytes."""
    return StoreSpec(
        dataset="zeros",
        encoder="none",
        fingerprint={"values": "zeros"},
        layers=(0,),
        width=WIDTH,
        count=shards * shard_rows,
        shard_rows=shard_rows,
    )


def large_keys(rows: list[int]) -> list[str]:
    """The keys of some rows."""
    return [f"img/{row:0{KEY_DIGITS}d}.jpg" for row in rows]


def make_large_store(folder: Path, spec: StoreSpec, *, features: bool = True) -> Store:
    """A finished store of zeros; the first sample of each fourth shard has failed.

    Args:
        folder: folder of the store.
        spec: spec of the store.
        features: write the files of the shards; otherwise there are only their commit records.
    """
    (folder / "keys/c").mkdir(parents=True)
    with (folder / "keys/c/0").open("wb") as file:
        file.write(spec.count.to_bytes(4, "little"))
        for start in range(0, spec.count, WRITTEN_KEYS):
            file.write(_chunk(start, min(start + WRITTEN_KEYS, spec.count)))
    chunk = np.memmap(folder / "keys/c/0", np.uint8, "r")
    digest = spec.digest(PackedKeys.from_vlen(chunk, spec.count))
    sums = {"keys/c/0": size_and_checksum([chunk])}
    for name, data in _metadata(spec).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        sums[name] = size_and_checksum([data])
    (folder / "epalm/spec.json").write_bytes(StoreHeader(spec, digest, sums).to_bytes())
    _write_shards(folder, spec, digest, features=features)
    return Store.open(folder)


def _write_shards(folder: Path, spec: StoreSpec, digest: str, *, features: bool) -> None:
    shape = (spec.shard_rows, *spec.row_shape)
    zeros, valid = np.zeros(shape, spec.dtype), np.ones(spec.shard_rows, np.bool_)
    parts = ZarrFormat("").encode_shard(spec, 0, features=zeros, valid=valid)
    sums = [size_and_checksum(content) for content in parts.values()]
    failed: dict[str, str] = {}
    (folder / "epalm/done").mkdir()
    for shard in range(spec.shards):
        names = ZarrFormat("").shard_files(shard)
        if features:
            _write_files(folder, names, [*parts.values()])
        errors = dict.fromkeys(large_keys([spec.rows_of(shard).start]), "broken")
        errors = errors if shard % 4 == 0 else {}
        files = dict(zip(names, sums, strict=True))
        record = CommitRecord(spec.shard_rows, files, errors, digest, shard)
        (folder / f"epalm/done/{shard:05d}.json").write_bytes(record.to_bytes())
        failed |= errors
    (folder / "epalm/errors.jsonl").write_bytes(errors_text(failed))


def _write_files(folder: Path, names: Sequence[str], contents: Sequence[Sequence[Part]]) -> None:
    """Write the files of a shard; the features, its first part, are a hole."""
    (first, *rest), flags = contents
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / names[0]).open("wb") as file:
        file.truncate(sum(map(len, (first, *rest))))
        file.seek(len(first))
        for part in rest:
            file.write(bytes(part))
    (folder / names[1]).write_bytes(b"".join(map(bytes, flags)))


def _chunk(start: int, stop: int) -> bytes:
    """Length and bytes of each key, in the codec vlen-utf8."""
    head, tail = b"img/", b".jpg"
    size = len(head) + KEY_DIGITS + len(tail)
    texts = np.empty((stop - start, 4 + size), np.uint8)
    texts[:, :4] = np.frombuffer(size.to_bytes(4, "little"), np.uint8)
    texts[:, 4 : 4 + len(head)] = np.frombuffer(head, np.uint8)
    texts[:, -len(tail) :] = np.frombuffer(tail, np.uint8)
    rows: NDArray[np.int64] = np.arange(start, stop)
    for digit in range(KEY_DIGITS):
        column = 4 + len(head) + KEY_DIGITS - 1 - digit
        texts[:, column] = ord("0") + rows // 10**digit % 10
    return texts.tobytes()


def _metadata(spec: StoreSpec) -> dict[str, bytes]:
    """The metadata for other libraries: those of a store of one key, with the real numbers."""
    small = spec.grown_to(1)
    files = ZarrFormat("").encode_initial_files(small, ["x"])
    metadata = {}
    for name, data in files.items():
        if name == "keys/c/0" or not isinstance(data, bytes):
            continue
        fields = json.loads(data)
        if "shape" in fields:
            fields["shape"][0] = spec.count
        if name.startswith("keys/"):
            fields["chunk_grid"]["configuration"]["chunk_shape"] = [spec.count]
        metadata[name] = json.dumps(fields).encode()
    return metadata
