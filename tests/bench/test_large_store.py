"""The stores of holes are real stores, and their measurements read them."""

from pathlib import Path

import numpy as np
import zarr

from bench.large_store import begin_epoch, open_index
from bench.support.large_stores import large_keys, large_spec, make_large_store
from epalm.cache.maintenance.verify import verify_deep


def test_a_store_of_holes_is_intact_and_has_the_named_keys(tmp_path: Path) -> None:
    store = make_large_store(tmp_path / "s.zarr", large_spec(5, 64))
    assert list(verify_deep(store)) == []
    assert store.keys == large_keys(list(range(320)))
    assert sorted(store.failed_samples()) == large_keys([0, 256])
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")
    assert group["keys"][319] == "img/0000000319.jpg"  # type: ignore[index]
    assert not np.asarray(group["cls"][:]).any()  # type: ignore[index]


def test_the_measurements_run(tmp_path: Path) -> None:
    location = str(tmp_path / "s.zarr")
    make_large_store(tmp_path / "s.zarr", large_spec(8, 64))
    assert open_index(location)["find_ms"] > 0
    assert begin_epoch(location, 100)["wall"] > 0
