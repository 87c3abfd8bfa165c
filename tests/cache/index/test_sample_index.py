import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.formats.zarr_metadata import encode_group
from epalm.cache.index import index_parts, key_lines, sample_index
from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.index.index_parts import KEYED, FileEntry, Location, SampleBatch
from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.index.vlen_keys import KeysChunk
from epalm.cache.storage.checksum import size_and_checksum
from tests.cache.helpers import spec as small_spec
from tests.cache.index.index_units import KEYED_FILES, ODD_KEYS, build, tar_batch, unit


def random_keys(count: int, seed: int) -> list[str]:
    source = random.Random(seed)
    letters = 'abcdefghij/ä"\\'
    return [f"{''.join(source.choices(letters, k=source.randrange(30)))}-{n}" for n in range(count)]


@pytest.fixture
def keys() -> list[str]:
    return [*random_keys(20_000, seed=1), *ODD_KEYS, ""]


@pytest.fixture
def index(tmp_path: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> SampleIndex:
    """An index of several units and parts, whose keys are those of the list."""
    monkeypatch.setattr(index_parts, "PART_ROWS", 5000)
    units = [
        unit("a", *(SampleBatch(KEYED_FILES, keys[at : at + 1000]) for at in range(0, 9000, 1000))),
        unit("none"),
        unit("b", SampleBatch(KEYED_FILES, keys[9000:])),
    ]
    build(tmp_path / "index", *units)
    return SampleIndex.open(tmp_path / "index")


def test_keys_are_those_of_the_samples_in_order(index: SampleIndex, keys: list[str]) -> None:
    assert len(index) == len(keys)
    assert index.keys(0, len(keys)) == keys
    for start, stop in ((0, 1), (4999, 5001), (8999, 9001), (12_345, 12_345), (20_000, len(keys))):
        assert index.keys(start, stop) == keys[start:stop]
    with pytest.raises(IndexError, match="rows 3 to 20010 of 20009"):
        index.keys(3, 20_010)


def test_every_key_is_found_in_its_row(index: SampleIndex, keys: list[str]) -> None:
    rows = {key: row for row, key in enumerate(keys)}
    order = random.Random(2).sample(keys, len(keys))
    assert index.find(order).tolist() == [rows[key] for key in order]
    absent = random_keys(1000, seed=3)
    assert index.find(absent).tolist() == [rows.get(key, -1) for key in absent]
    assert index.find([]).dtype == np.int64


def test_different_keys_of_the_same_hash_are_told_apart_by_their_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hash is one of three values, so runs of equal hashes span blocks of the table."""
    for module in (key_lines, index_parts, sample_index):
        monkeypatch.setattr(
            module, "hash_lines", lambda lines: np.array([len(line) % 3 for line in lines], "<u8")
        )
    keys = random_keys(15_000, seed=4)
    index = build(tmp_path, unit("a", SampleBatch(KEYED_FILES, keys)))
    asked = [keys[7], keys[14_999], "absent", keys[0], keys[9_000]]
    assert index.find(asked).tolist() == [7, 14_999, -1, 0, 9_000]


def test_locations_are_those_of_the_samples(tmp_path: Path) -> None:
    own = SampleBatch(FileEntry(KEYED, "x/", ".png"), ["c"], [1234], [99])
    table = FileEntry("cells", "t.parquet", size=5, mtime_ns=6, row_group=3, column="image.bytes")
    units = (
        unit("tars", tar_batch("0.tar", ["a", "b"]), tar_batch("1.tar", ["b2"])),
        unit("files", own, SampleBatch(FileEntry("whole", "d.png"), ["other"])),
        unit("table", SampleBatch(table, ["t0"], [17], [400])),
    )
    index = build(tmp_path, *units)
    assert index.items(0, 6) == [
        ("a", Location("0.tar", 512, 100, size=2048, mtime_ns=77)),
        ("b", Location("0.tar", 1536, 100, size=2048, mtime_ns=77)),
        ("b2", Location("1.tar", 512, 100, size=1024, mtime_ns=77)),
        ("c", Location("x/c.png", size=99, mtime_ns=1234)),
        ("other", Location("d.png")),
        ("t0", Location("t.parquet", 17, 400, 5, 6, row_group=3, column="image.bytes")),
    ]


def test_the_digest_of_a_store_is_that_of_its_keys_as_a_tuple(
    index: SampleIndex, keys: list[str]
) -> None:
    for count in (1, 4999, 5000, 5001, 12_000, len(keys)):
        spec = replace(small_spec(), count=count)
        assert spec.digest(IndexKeys(index, count)) == spec.digest(tuple(keys[:count]))
    lines = "".join(json.dumps(key) + "\n" for key in keys)
    assert index.keys_digest == hashlib.sha256(lines.encode()).hexdigest()


def test_keys_of_an_index_are_a_sequence(index: SampleIndex, keys: list[str]) -> None:
    sequence = IndexKeys(index, 12_000)
    assert (len(sequence), list(sequence)) == (12_000, keys[:12_000])
    assert (sequence[0], sequence[-1], sequence[-12_000]) == (keys[0], keys[11_999], keys[0])
    assert sequence[100:11_000:7] == keys[100:11_000:7]
    assert sequence[50:40:-3] == keys[50:40:-3]
    assert keys[11_999] in sequence
    assert keys[12_000] not in sequence
    assert 3 not in sequence
    with pytest.raises(IndexError, match="row 12000 of 12000"):
        sequence[12_000]


def test_the_keys_of_a_zarr_store_are_those_that_zarr_writes(tmp_path: Path) -> None:
    keys = [*random_keys(3000, seed=5), *ODD_KEYS[:-1], "", "x" * 5000]
    index = build(tmp_path, unit("a", SampleBatch(KEYED_FILES, keys)))
    for count in (len(keys), 2000):
        store = replace(small_spec(), count=count)
        written = encode_group(store, tuple(keys[:count]), private="epalm")
        chunk = encode_group(store, IndexKeys(index, count), private="epalm").pop("keys/c/0")
        assert isinstance(chunk, KeysChunk)
        assert b"".join(chunk) == written["keys/c/0"]
        assert chunk.sums == size_and_checksum([written["keys/c/0"]])
