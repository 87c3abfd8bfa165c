"""Stores of several encoders are joined by key, compared with a dict of the features of each."""

import logging
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.joined.joined_stores import (
    JoinedStores,
    in_all_stores,
    open_joined_reader,
)
from epalm.errors import CacheMismatchError, StoreError, UnknownKeyError, UsageError
from epalm.tasks.types import Example
from tests.cache.helpers import spec

FIRST = [f"{row}.jpg" for row in range(130)]
SECOND = [f"{row}.jpg" for row in range(189, 3, -1)]
COMMON = FIRST[4:]
FAILED = "100.jpg"


def write(location: Path, keys: list[str], **changes: object) -> dict[str, np.ndarray]:
    """Write a finished store; the features (L x D,) of each of its keys."""
    settings = spec(**{"count": len(keys)} | changes)
    store = create_store(location, settings, keys)
    features = np.random.default_rng(len(keys)).normal(size=settings.shape).astype(np.float16)
    for shard in range(settings.shards):
        rows = settings.rows_of(shard)
        errors = {FAILED: "broken"} if FAILED in keys[rows.start : rows.stop] else {}
        store.write_shard(shard, features[rows.start : rows.stop], errors)
    store.finish()
    return dict(zip(keys, features[:, 0].reshape(len(keys), -1), strict=True))


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, np.ndarray]]:
    """Locations of two stores with 126 common samples, and the joined features of these."""
    folder = tmp_path_factory.mktemp("joined")
    locations = [folder / "a.zarr", folder / "b.h5"]
    first = write(locations[0], FIRST)
    second = write(locations[1], SECOND, encoder="clip", layers=(3,), width=6, shard_rows=128)
    return [*map(str, locations)], {
        key: np.concatenate([first[key], second[key]])[None] for key in COMMON
    }


def shuffled(seed: int) -> list[str]:
    keys = [key for key in COMMON if key != FAILED]
    return [keys[place] for place in np.random.default_rng(seed).permutation(len(keys)).tolist()]


@pytest.mark.parametrize("reader", ["ram", "mapped", "pread", "stream"])
def test_every_reader_serves_the_features_of_both_stores(
    joined: tuple[list[str], dict[str, np.ndarray]], reader: str
) -> None:
    locations, features = joined
    stores = JoinedStores.open(locations, common=True)
    assert stores.row_shape == (1, 2 * 4 + 6)
    keys = shuffled(0)
    source = stores.select(stores.index(), keys=keys).open(reader, 10**6)
    expected = np.stack([features[key] for key in keys])
    assert np.array_equal(source.read(keys), expected)
    rows = source.rows(keys)
    assert rows.tolist() == [FIRST.index(key) for key in keys]
    out = np.empty_like(expected[:40])
    source.take(rows[:40], np.zeros(40, np.intp), out)
    assert np.array_equal(out, expected[:40])
    order = np.argsort(rows)
    plan = ReadPlan(rows[order], np.zeros(len(rows), np.intp), np.array([len(rows)]))
    served = np.concatenate([batch.copy() for batch in source.stream(plan, 32)])
    assert np.array_equal(served, expected[order])


def test_some_samples_are_read_from_joined_stores_and_from_a_single_one(
    joined: tuple[list[str], dict[str, np.ndarray]],
) -> None:
    locations, features = joined
    keys = ["129.jpg", "4.jpg", "77.jpg"]
    stores = JoinedStores.open(locations, common=True)
    source = open_joined_reader(stores, reader="pread", keys=keys, task="")
    assert np.array_equal(source.read(keys), np.stack([features[key] for key in keys]))
    assert source.valid([FAILED, "4.jpg"]).tolist() == [False, True]
    single = open_joined_reader(
        JoinedStores.open(locations[:1]), reader="pread", keys=keys, task=""
    )
    own = np.stack([features[key][0, :8].reshape(2, 4) for key in keys])
    assert np.array_equal(single.read(keys), own)
    assert JoinedStores.open(locations[:1]).row_shape == (2, 4)


def test_a_joined_index_has_the_rows_of_the_first_store_for_the_common_samples(
    joined: tuple[list[str], dict[str, np.ndarray]],
) -> None:
    index = JoinedStores.open(joined[0], common=True).index()
    assert index.has(["3.jpg", "4.jpg", "129.jpg", "130.jpg"]).tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert index.valid([FAILED, "4.jpg"]).tolist() == [False, True]
    assert index.rows(["5.jpg", "4.jpg"]).tolist() == [5, 4]
    with pytest.raises(StoreError, match="could not be encoded"):
        index.rows([FAILED])
    with pytest.raises(UnknownKeyError, match=r"3\.jpg"):
        index.rows(["3.jpg"])


def test_stores_of_different_samples_are_refused_with_the_first_three_of_each(
    joined: tuple[list[str], dict[str, np.ndarray]],
) -> None:
    stores = JoinedStores.open(joined[0])
    with pytest.raises(CacheMismatchError) as error:
        stores.index()
    message = str(error.value)
    assert "a.zarr has 4 that not all have, such as '0.jpg', '1.jpg', '2.jpg';" in message
    assert "b.h5 has 60 that not all have, such as '189.jpg', '188.jpg', '187.jpg'." in message
    assert "--common to use the 126 samples that all have" in message


def test_stores_without_a_common_sample_cannot_be_joined(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", ["x", "y"])
    write(tmp_path / "b.zarr", ["z"])
    stores = JoinedStores.open([str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")], common=True)
    with pytest.raises(CacheMismatchError, match=r"no sample in common.*--concatenate"):
        stores.index()


def test_examples_whose_sample_a_store_lacks_are_left_out(
    joined: tuple[list[str], dict[str, np.ndarray]], caplog: pytest.LogCaptureFixture
) -> None:
    index = JoinedStores.open(joined[0], common=True).index()
    examples = [Example(key, key, "?", ("yes",), ("yes",)) for key in ("1.jpg", "4.jpg", "5.jpg")]
    with caplog.at_level(logging.INFO):
        assert in_all_stores(examples, index, "val") == examples[1:]
    assert "val: 1 of 3 examples left out" in caplog.text
    caplog.clear()
    assert in_all_stores(examples[1:], index, "val") == examples[1:]
    assert in_all_stores([], index, "val") == []
    assert caplog.text == ""
    with pytest.raises(CacheMismatchError, match="val: no sample of its 1 examples"):
        in_all_stores(examples[:1], index, "val")


def test_common_needs_several_stores_and_none_may_be_named_twice() -> None:
    with pytest.raises(UsageError, match="--common joins several stores"):
        JoinedStores.open(["a.zarr"], common=True)
    with pytest.raises(UsageError, match=r"names a\.zarr twice"):
        JoinedStores.open(["a.zarr", "b.zarr", "a.zarr"])
