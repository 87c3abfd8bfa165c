"""Parts of one dataset are read like one store, compared with a dict of the features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.readers.epoch_order import BLOCK_ROWS, ShuffleSpec
from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.joined.joined_stores import JoinedStores, open_joined_reader
from epalm.errors import CacheMismatchError, StoreError, UnknownKeyError, UsageError
from tests.cache.helpers import spec

COUNTS = (70, 5, 150)
FAILED = "1/3.jpg"


def keys_of(part: int) -> list[str]:
    return [f"{part}/{row}.jpg" for row in range(COUNTS[part])]


def make_part(
    location: Path | str, keys: Sequence[str], seed: int, **changes: object
) -> dict[str, np.ndarray]:
    """Write a finished store; the features (L, D) of each of its keys."""
    part = spec(**{"count": len(keys), "shard_rows": 64} | changes)
    store = create_store(location, part, keys)
    features = np.random.default_rng(seed).normal(size=part.shape).astype(np.float16)
    for shard in range(part.shards):
        rows = part.rows_of(shard)
        errors = {FAILED: "broken"} if FAILED in keys[rows.start : rows.stop] else {}
        store.write_shard(shard, features[rows.start : rows.stop], errors)
    store.finish()
    return dict(zip(keys, features[:, 0], strict=True))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, np.ndarray]]:
    """Locations of three parts, with different shards, formats and names, and their features."""
    folder = tmp_path_factory.mktemp("parts")
    locations = [str(folder / name) for name in ("a.zarr", "b.h5", "c.zarr")]
    features: dict[str, np.ndarray] = {}
    for part, location in enumerate(locations):
        changes = {"shard_rows": 128, "dataset": "more"} if part == 2 else {}
        features |= make_part(location, keys_of(part), part, **changes)
    return locations, features


def encoded_keys(features: dict[str, np.ndarray], seed: int) -> list[str]:
    keys = [key for key in features if key != FAILED]
    order = np.random.default_rng(seed).permutation(len(keys))
    return [keys[place] for place in order.tolist()]


@pytest.mark.parametrize("reader", ["ram", "mapped", "pread", "stream"])
def test_every_reader_serves_the_rows_of_all_parts(
    parts: tuple[list[str], dict[str, np.ndarray]], reader: str
) -> None:
    locations, features = parts
    stores = JoinedStores.open(locations, concatenate=True)
    assert stores.spec.count == sum(COUNTS)
    keys = encoded_keys(features, 0)
    index = stores.index()
    source = stores.select(index, keys=keys).open(reader, 10**6)
    expected = np.stack([features[key] for key in keys])
    assert np.array_equal(source.read(keys), expected)
    rows = source.rows(keys)
    order = ShuffleSpec("blocks", 4).draw(rows, np.random.default_rng(0))
    plan = ReadPlan(rows[order.examples], np.zeros(len(rows), np.intp), order.pool_ends)
    served = np.concatenate([batch.copy() for batch in source.stream(plan, 32)])
    assert np.array_equal(served, expected[order.examples])
    out = np.empty_like(expected[:40])
    source.take(rows[:40], np.zeros(40, np.intp), out)
    assert np.array_equal(out, expected[:40])


def test_a_block_of_rows_is_in_one_part(parts: tuple[list[str], dict[str, np.ndarray]]) -> None:
    locations, features = parts
    stores = JoinedStores.open(locations, concatenate=True)
    index = stores.index()
    keys = encoded_keys(features, 1)
    rows = index.rows(keys)
    blocks: dict[int, set[str]] = {}
    for key, row in zip(keys, rows.tolist(), strict=True):
        blocks.setdefault(row // BLOCK_ROWS, set()).add(key.split("/")[0])
    assert all(len(names) == 1 for names in blocks.values())
    assert len(set(rows.tolist())) == len(keys)
    own = {store.location: found for store, found in stores.own_rows(index, rows)}
    for part, location in enumerate(locations):
        wanted = {keys_of(part).index(key) for key in keys if key.startswith(f"{part}/")}
        assert set(own[location].tolist()) == wanted


def test_some_samples_of_some_parts_are_read(
    parts: tuple[list[str], dict[str, np.ndarray]],
) -> None:
    locations, features = parts
    stores = JoinedStores.open(locations, concatenate=True)
    keys = ["2/149.jpg", "2/3.jpg", "0/1.jpg"]
    source = open_joined_reader(stores, reader="ram", keys=keys, task="")
    assert np.array_equal(source.read(keys), np.stack([features[key] for key in keys]))
    assert source.valid([FAILED, "0/1.jpg"]).tolist() == [False, True]
    with pytest.raises(StoreError, match="could not be encoded"):
        source.rows([FAILED])
    with pytest.raises(StoreError, match="not one of the samples"):
        source.rows(["1/0.jpg"])
    with pytest.raises(UnknownKeyError, match=r"lack 1 sample of the 2 .* 'nowhere'"):
        source.rows(["0/1.jpg", "nowhere"])


def test_parts_with_the_same_sample_are_refused(tmp_path: Path) -> None:
    make_part(tmp_path / "a.zarr", ["x", "y"], 0)
    make_part(tmp_path / "b.zarr", ["z", "y"], 0)
    stores = JoinedStores.open(
        [str(tmp_path / name) for name in ("a.zarr", "b.zarr")], concatenate=True
    )
    with pytest.raises(CacheMismatchError, match="parts 1 and 2 both have 'y'"):
        stores.index()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": {"weights": "bb"}}, "fingerprint.weights is bb, expected aa"),
        ({"dtype": "float32"}, "dtype is float32, expected float16"),
        ({"views": 2}, "views is 2, expected 1"),
    ],
)
def test_parts_with_features_of_other_settings_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    locations = [str(tmp_path / name) for name in ("a.zarr", "b.zarr")]
    for location, changes in zip(locations, ({}, change), strict=True):
        create_store(location, spec(count=2, **changes), [location, "x"])
    with pytest.raises(CacheMismatchError, match=message):
        JoinedStores.open(locations, concatenate=True)


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="--common joins stores by key, --concatenate does not"):
        JoinedStores.open(["a.zarr", "b.zarr"], common=True, concatenate=True)
    with pytest.raises(UsageError, match="--concatenate reads several stores"):
        JoinedStores.open(["a.zarr"], concatenate=True)
