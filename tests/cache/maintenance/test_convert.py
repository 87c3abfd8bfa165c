from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.cache.maintenance.convert import convert
from epalm.cache.spec import fit_shard_rows
from epalm.cache.store import Store
from epalm.errors import CacheMismatchError, StoreError, UnfinishedStoreError
from tests.cache.helpers import BROKEN, COUNT, KEYS, file_contents, fill, finished_store, spec

DEFAULT_SHARD_ROWS = fit_shard_rows(COUNT, spec().row_bytes)
"""Rows per shard that an extraction would choose."""


def all_features(store: Store) -> np.ndarray:
    out = np.empty(store.spec.shape, store.spec.dtype)
    for number in range(store.spec.shards):
        rows = store.spec.rows_of(number)
        store.read_shard(number, out[rows.start : rows.stop])
    return out


def no_progress(count: int, note: str = "") -> None:
    pass


def test_a_round_trip_through_the_other_format_changes_no_byte(tmp_path: Path) -> None:
    first = finished_store(tmp_path / "s.zarr", shard_rows=DEFAULT_SHARD_ROWS)
    middle = convert([first], tmp_path / "m.h5", tick=no_progress)
    last = convert([middle], tmp_path / "e.zarr", tick=no_progress)
    assert file_contents(last) == file_contents(first)
    assert last.failed_samples() == {BROKEN: "truncated"}


def test_a_copy_with_other_shards_keeps_every_row(tmp_path: Path) -> None:
    first = finished_store(tmp_path / "s.zarr", shard_rows=64)
    converted = convert([first], tmp_path / "e.h5", tick=no_progress)
    assert converted.spec.shards == 1
    assert np.array_equal(all_features(converted), all_features(first), equal_nan=True)


def test_only_the_selected_layers_are_copied(tmp_path: Path) -> None:
    first = finished_store(tmp_path / "s.zarr", layers=(5, 6, 7))
    converted = convert([first], tmp_path / "e.zarr", layers=[7, 5], tick=no_progress)
    assert converted.spec.layers == (5, 7)
    expected = all_features(first)[:, :, [0, 2]]
    assert np.array_equal(all_features(converted), expected, equal_nan=True)
    with pytest.raises(StoreError, match=r"has no layers \[4\], it has \[5, 6, 7\]"):
        convert([first], tmp_path / "x.zarr", layers=[4], tick=no_progress)


def test_a_kept_layer_keeps_all_its_tokens(tmp_path: Path) -> None:
    first = finished_store(tmp_path / "s.zarr", layers=(5, 6, 7), positions=4)
    converted = convert([first], tmp_path / "e.h5", layers=[5, 7], tick=no_progress)
    assert converted.spec.shape == (COUNT, 1, 8, 4)
    expected = all_features(first)[:, :, [0, 1, 2, 3, 8, 9, 10, 11]]
    assert np.array_equal(all_features(converted), expected, equal_nan=True)


def seeded(path: Path, seed: int, *, views: int, view_0: int = 0) -> Store:
    fingerprint = {"weights": "aa", "views.seed": str(seed)}
    store = create_store(path, spec(views=views, fingerprint=fingerprint), KEYS)
    values = np.random.default_rng(seed).normal(size=store.spec.shape).astype(np.float32)
    values[:, 0] = view_0
    for number in store.missing_shards():
        rows = store.spec.rows_of(number)
        store.write_shard(number, values[rows.start : rows.stop], {})
    store.finish()
    return store


def test_views_of_two_seeds_are_merged_after_their_common_view_0(tmp_path: Path) -> None:
    parts = [seeded(tmp_path / "a.zarr", 1, views=3), seeded(tmp_path / "b.zarr", 2, views=2)]
    converted = convert(parts, tmp_path / "e.zarr", tick=no_progress)
    assert converted.spec.views == 4
    assert converted.spec.fingerprint["views.seed"] == "1 (3) + 2 (2)"
    first, second = map(all_features, parts)
    assert np.array_equal(all_features(converted), np.concatenate([first, second[:, 1:]], axis=1))


def test_the_same_views_are_not_merged_twice(tmp_path: Path) -> None:
    store = seeded(tmp_path / "a.zarr", 1, views=2)
    with pytest.raises(CacheMismatchError, match=r"has the same views as .*: merge stores of"):
        convert([store, store], tmp_path / "e.zarr", tick=no_progress)


def test_a_copy_over_another_store_is_refused_without_advice_to_delete_it(tmp_path: Path) -> None:
    first = finished_store(tmp_path / "s.zarr", layers=(5, 6))
    with pytest.raises(CacheMismatchError, match=r"Choose another --out\.$"):
        convert([first], tmp_path / "s.zarr", layers=[6], tick=no_progress)


def test_stores_that_differ_in_more_than_their_views_are_not_merged(tmp_path: Path) -> None:
    first = seeded(tmp_path / "a.zarr", 1, views=2)
    with pytest.raises(CacheMismatchError, match=r"fingerprint.preprocessing"):
        convert([first, finished_store(tmp_path / "b.zarr")], tmp_path / "e.zarr", tick=no_progress)
    other = seeded(tmp_path / "c.zarr", 2, views=2, view_0=1)
    with pytest.raises(StoreError, match="view 0 differs between the stores"):
        convert([first, other], tmp_path / "e.zarr", tick=no_progress)


def test_an_unfinished_store_is_not_copied(tmp_path: Path) -> None:
    half = fill(create_store(tmp_path / "s.zarr", spec(), KEYS), [1])
    with pytest.raises(UnfinishedStoreError, match="2 of 3 shards are missing"):
        convert([half], tmp_path / "e.zarr", tick=no_progress)


def test_an_interrupted_copy_is_resumed(tmp_path: Path) -> None:
    first = finished_store(tmp_path / "s.zarr", shard_rows=DEFAULT_SHARD_ROWS)
    convert([first], tmp_path / "e.h5", tick=no_progress)
    converted = Store.open(tmp_path / "e.h5")
    whole = file_contents(converted)
    converted.storage.delete([converted.commit_record_name(0)])
    copied: list[int] = []
    convert([first], tmp_path / "e.h5", tick=lambda count, note="": copied.append(count))
    assert (copied, file_contents(converted)) == ([COUNT], whole)
