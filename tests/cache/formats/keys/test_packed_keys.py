"""Packed keys are compared with lists and dicts, and with the digest of the keys as a list."""

import hashlib
import random
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr

from epalm.cache.formats.keys import packed_table, vlen_offsets
from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.keys.packed_table import PackedTable
from epalm.cache.readers.open_reader import open_store
from epalm.cache.storage import regular_file
from epalm.cache.store import Store
from tests.cache.helpers import BROKEN, KEYS, finished_store, random_features, spec

LENGTHS = (0, 1, 3, 7, 8, 9, 16, 30, 255, 256, 257, 300)


def vlen(keys: Sequence[str]) -> np.ndarray:
    """The chunk that the codec vlen-utf8 makes of these keys."""
    encoded = [key.encode() for key in keys]
    texts = [struct.pack("<I", len(key)) + key for key in encoded]
    return np.frombuffer(struct.pack("<I", len(keys)) + b"".join(texts), np.uint8)


def random_keys(seed: int) -> list[str]:
    """Distinct keys; those of an odd seed have zero bytes, quotes and characters beyond ASCII."""
    source = random.Random(seed)
    letters = 'ab\0é"\\\n漢/' if seed % 2 else "abc01"
    count = source.choice([1, 2, 3, 50, 400])
    keys = ("".join(source.choices(letters, k=source.choice(LENGTHS))) for _ in range(count))
    return list(dict.fromkeys(keys))


def digest_of_list(keys: Sequence[str]) -> str:
    return spec(count=len(keys)).digest(tuple(keys))


@pytest.mark.parametrize("window", [16, 1 << 25])
@pytest.mark.parametrize("seed", range(12))
def test_keys_are_those_of_a_list(seed: int, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vlen_offsets, "WINDOW_BYTES", window)
    monkeypatch.setattr(vlen_offsets, "STEPPED_KEYS", 3)
    keys = random_keys(seed)
    for packed in (
        PackedKeys.from_vlen(vlen(keys), len(keys)),
        PackedKeys.of(keys),
        PackedKeys.joined(keys[start : start + 7] for start in range(0, len(keys), 7)),
    ):
        assert packed == keys
        assert tuple(keys) == packed
        assert list(packed) == keys
        assert packed[-1] == keys[-1]
        assert packed[1:30:2] == tuple(keys[1:30:2])
        assert packed != [*keys[:-1], keys[-1] + "?"]
        assert spec(count=len(keys)).digest(packed) == digest_of_list(keys)


@pytest.mark.parametrize("seed", range(12))
def test_rows_are_those_of_a_dict(seed: int) -> None:
    keys = random_keys(seed)
    rows = {key: row for row, key in enumerate(keys)}
    table = PackedTable(PackedKeys.from_vlen(vlen(keys), len(keys)))
    wanted = [*reversed(keys), "zz", "", "a" * 500, "\ud800", keys[0] + "\0", keys[0]]
    assert table.find(wanted).tolist() == [rows.get(key, -1) for key in wanted]
    assert table.find([]).tolist() == []


def test_keys_whose_hashes_are_equal_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_table, "_mix", np.zeros_like)
    keys = [f"{row:03d}" for row in range(100)]
    table = PackedTable(PackedKeys.of(keys))
    assert table.find([*keys, "100"]).tolist() == [*range(100), -1]


def split_mix(value: int) -> int:
    """The last step of SplitMix64 (Steele, Lea and Flood 2014), with the numbers of its authors."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def test_entries_of_stored_tables_stay_the_same_in_every_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed, keys = 0x0123456789ABCDEF, ["", "a", "é/1.jpg", "exactly8", "a longer key, of 3 words"]
    monkeypatch.setattr(packed_table.secrets, "randbits", lambda _: seed)
    expected = []
    for row, key in enumerate(keys):
        data = key.encode()
        value = len(data) ^ seed
        for place in range(0, len(data), 8):
            value = split_mix(value ^ int.from_bytes(data[place : place + 8], "little"))
        expected.append(split_mix(value) // 8 * 8 + row)  # five rows need three bits
    entries = packed_table.make_entries(PackedKeys.of(keys), np.empty(len(keys), np.uint64))
    assert entries.seed == seed
    assert entries.values.tolist() == sorted(expected)


def test_zarr_reads_the_same_keys_from_the_chunk() -> None:
    keys = [key for seed in range(0, 12, 2) for key in random_keys(seed)]
    files: dict[str, object] = {}
    store = zarr.storage.MemoryStore(files)
    array = zarr.create_array(
        store, shape=(len(keys),), chunks=(len(keys),), dtype="string", compressors=None
    )
    array[:] = np.array(keys, dtype=np.dtypes.StringDType())
    chunk = np.frombuffer(files["c/0"].to_bytes(), np.uint8)  # type: ignore[attr-defined]
    assert hashlib.sha256(chunk).digest() == hashlib.sha256(vlen(keys)).digest()
    assert PackedKeys.from_vlen(chunk, len(keys)) == keys


@pytest.mark.parametrize("keys", [["abc", "de"], ["a\0\0b", "", "é"]])
def test_a_chunk_that_is_cut_or_longer_is_refused(keys: list[str]) -> None:
    chunk = vlen(keys)
    for wrong in (chunk[:-1], chunk[:6], np.append(chunk, np.zeros(1, np.uint8))):
        with pytest.raises(ValueError, match="chunk of keys"):
            PackedKeys.from_vlen(wrong, len(keys))
    with pytest.raises(ValueError, match=f"has {len(keys)} strings, expected 1"):
        PackedKeys.from_vlen(chunk, 1)


def test_a_chunk_with_more_keys_than_it_counts_is_refused() -> None:
    chunk = vlen(["ab", "a\0\0b", "x"]).copy()
    chunk[:4] = (2, 0, 0, 0)
    with pytest.raises(ValueError, match="ends before or after its 2 strings"):
        PackedKeys.from_vlen(chunk, 2)


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_mapped_keys_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(regular_file, "MAPPED_BYTES", 0)
    finished_store(tmp_path / name)
    source = open_store(tmp_path / name)
    keys = [key for key in reversed(KEYS) if key != BROKEN]
    rows = [KEYS.index(key) for key in keys]
    assert np.array_equal(source.read(keys), random_features()[rows, 0].astype(np.float16))
    assert Store.open(tmp_path / name).keys == KEYS
