import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.store import FeatureSink, create_store, open_store
from epalm.cache.zarr_store import ZarrStore
from epalm.errors import (
    CacheMismatchError,
    CorruptShardError,
    StoreError,
    UnfinishedStoreError,
    UnknownKeyError,
)

COUNT = 150
KEYS = [f"é/{row}.jpg" for row in range(COUNT)]
BROKEN = KEYS[70]


def spec(**changes: object) -> StoreSpec:
    fields = {
        "dataset": "coco",
        "encoder": "vit-b16",
        "fingerprint": {"weights": "aa", "preprocessing": "official"},
        "layers": (0, 1),
        "width": 4,
        "count": COUNT,
        "shard_rows": 64,
    }
    return StoreSpec(**(fields | changes))  # type: ignore[arg-type]


def tokens() -> np.ndarray:
    return np.random.default_rng(0).normal(size=spec().shape).astype(np.float32)


def fill(sink: FeatureSink, shards: list[int] | None = None) -> None:
    for shard in sink.missing() if shards is None else shards:
        rows = sink.spec.rows_of(shard)
        errors = {BROKEN: "truncated"} if KEYS.index(BROKEN) in rows else {}
        sink.write(shard, tokens()[rows.start : rows.stop], errors)


def finished(path: Path) -> Path:
    sink = create_store(path, spec(), KEYS)
    fill(sink)
    sink.finish()
    return path


def contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_plain_zarr_reads_the_rows_keys_and_validity(tmp_path: Path) -> None:
    group = zarr.open_group(finished(tmp_path / "s.zarr"), mode="r")
    cls, valid = np.asarray(group["cls"]), np.asarray(group["valid"])
    assert list(group["keys"]) == KEYS  # type: ignore[arg-type]
    assert [KEYS[row] for row in np.flatnonzero(~valid)] == [BROKEN]
    assert np.isnan(cls[70]).all()
    assert np.array_equal(cls[valid], tokens()[valid].astype(np.float16))


def test_rows_come_by_key_in_the_order_asked(tmp_path: Path) -> None:
    source = open_store(finished(tmp_path / "s.zarr"))
    found = source.read([KEYS[149], KEYS[3], KEYS[149]])
    assert np.array_equal(found, tokens()[[149, 3, 149], 0].astype(np.float16))


def test_a_record_that_failed_is_listed_and_refused(tmp_path: Path) -> None:
    path = finished(tmp_path / "s.zarr")
    source = open_store(path)
    assert source.valid([BROKEN, KEYS[0]]).tolist() == [False, True]
    with pytest.raises(StoreError, match="could not be encoded"):
        source.read([BROKEN])
    listed = [json.loads(line) for line in (path / "epalm/errors.jsonl").read_text().splitlines()]
    assert listed == [{"key": BROKEN, "error": "truncated"}]


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownKeyError, match=r"no record 'zebra.jpg'"):
        open_store(finished(tmp_path / "s.zarr")).read(["zebra.jpg"])


def test_an_unfinished_store_says_how_to_go_on(tmp_path: Path) -> None:
    sink = create_store(tmp_path / "s.zarr", spec(), KEYS)
    fill(sink, [1])
    assert sink.missing() == [0, 2]
    with pytest.raises(UnfinishedStoreError, match="misses 2 of 3 shards: run the same"):
        open_store(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match="still misses 2 shards"):
        sink.finish()


def test_missing_rows_read_as_nan_in_plain_zarr(tmp_path: Path) -> None:
    fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [1])
    cls = np.asarray(zarr.open_group(tmp_path / "s.zarr", mode="r")["cls"])
    assert np.isnan(cls[:64]).all()
    assert not np.isnan(cls[64:70]).any()


def test_order_of_shards_and_writing_twice_change_no_byte(tmp_path: Path) -> None:
    straight = contents(finished(tmp_path / "a.zarr"))
    sink = create_store(tmp_path / "b.zarr", spec(), KEYS)
    fill(sink, [2, 0])
    fill(create_store(tmp_path / "b.zarr", spec(), KEYS), [0, 1])
    sink.finish()
    assert contents(tmp_path / "b.zarr") == straight


def test_writers_that_create_a_store_at_once_share_it(tmp_path: Path) -> None:
    gate = threading.Barrier(4)

    def work(shard: int) -> None:
        gate.wait()
        fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [shard] if shard < 3 else [])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    create_store(tmp_path / "s.zarr", spec(), KEYS).finish()
    assert contents(tmp_path / "s.zarr") == contents(finished(tmp_path / "alone.zarr"))
    assert {path.name for path in tmp_path.iterdir()} == {"s.zarr", "alone.zarr"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "vit-l16"}, "encoder is vit-b16, wanted vit-l16"),
        ({"dtype": "float32"}, "dtype is float16, wanted float32"),
        ({"layers": (1, 2)}, r"layers is \(0, 1\), wanted \(1, 2\)"),
        (
            {"fingerprint": {"weights": "bb", "preprocessing": "official"}},
            "fingerprint.weights is aa, wanted bb",
        ),
        (
            {"fingerprint": {"weights": "aa"}},
            "fingerprint.preprocessing is official, wanted absent",
        ),
    ],
)
def test_a_store_of_other_settings_is_not_reopened(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    create_store(tmp_path / "s.zarr", spec(), KEYS)
    with pytest.raises(CacheMismatchError, match=words):
        create_store(tmp_path / "s.zarr", spec(**change), KEYS)


def test_a_store_of_other_records_is_not_reopened(tmp_path: Path) -> None:
    create_store(tmp_path / "s.zarr", spec(), KEYS)
    with pytest.raises(CacheMismatchError, match="other records"):
        create_store(tmp_path / "s.zarr", spec(), [*KEYS[1:], "new.jpg"])


def test_the_place_of_the_data_may_change(tmp_path: Path) -> None:
    create_store(tmp_path / "s.zarr", spec(data_root="/old"), KEYS)
    create_store(tmp_path / "s.zarr", spec(data_root="/new"), KEYS)


@pytest.mark.parametrize(
    ("value", "words"), [(70000.0, "magnitude 70000, float16"), (np.nan, "magnitude nan")]
)
def test_a_value_that_does_not_fit_is_refused_with_its_record(
    tmp_path: Path, value: float, words: str
) -> None:
    sink = create_store(tmp_path / "s.zarr", spec(), KEYS)
    block = tokens()[:64]
    block[5, 0, 1, 2] = value
    with pytest.raises(StoreError, match=f"é/5.jpg has a value of {words}.*--dtype float32"):
        sink.write(0, block, {})
    assert 0 in sink.missing()


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damage_is_found_when_the_store_is_opened(tmp_path: Path, damage: str) -> None:
    path = finished(tmp_path / "s.zarr")
    shard = path / "cls/c/1/0/0/0"
    if damage == "delete":
        shard.unlink()
    elif damage == "truncate":
        os.truncate(shard, 100)
    else:
        raw = bytearray(shard.read_bytes())
        raw[77] ^= 4
        shard.write_bytes(raw)
    with pytest.raises(CorruptShardError, match=r"cls/c/1/0/0/0 .*00001.json"):
        open_store(path)
    (path / "epalm/done/00001.json").unlink()
    fill(create_store(path, spec(), KEYS))
    assert contents(path) == contents(finished(tmp_path / "fresh.zarr"))


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("mine")
    with pytest.raises(StoreError, match="no feature store"):
        create_store(tmp_path, spec(), KEYS)
    with pytest.raises(StoreError, match="found nothing at"):
        ZarrStore.open(tmp_path / "nowhere")


def test_repeated_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="149 distinct"):
        create_store(tmp_path / "s.zarr", spec(), [KEYS[1], *KEYS[1:]])


def test_a_killed_writers_private_folder_is_harmless(tmp_path: Path) -> None:
    path = finished(tmp_path / "s.zarr")
    shutil.copytree(path / "cls", path / "epalm" / ".put-dead" / "cls")
    assert open_store(path).valid(KEYS).sum() == COUNT - 1


def test_a_full_sized_store_has_full_shards_and_a_small_one_few() -> None:
    assert fit_shard_rows(123_287) == 8192
    assert fit_shard_rows(7000) == 896
    assert fit_shard_rows(300) == 320
    assert fit_shard_rows(1) == 64
