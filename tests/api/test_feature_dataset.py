"""A store as a PyTorch dataset, compared with what was written, in this and in other processes."""

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import epalm
from epalm.errors import CacheMismatchError, StoreError, UnknownKeyError
from tests.cache.helpers import BROKEN, COUNT, KEYS, finished_store, random_features

GOOD = [key for key in KEYS if key != BROKEN]


@pytest.fixture(params=["s.zarr", "s.h5"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return finished_store(tmp_path / request.param, views=2).location


def expected(view: int = 0) -> torch.Tensor:
    """(COUNT - 1, L, D), without the failed sample."""
    features = random_features(views=2).astype(np.float16)[:, view]
    return torch.from_numpy(np.delete(features, KEYS.index(BROKEN), axis=0))


@pytest.mark.parametrize("view", [0, 1])
def test_a_loader_gives_every_good_sample_in_order(location: str, view: int) -> None:
    dataset = epalm.FeatureDataset(location, view=view)
    batches = list(DataLoader(dataset, batch_size=64))
    assert [key for keys, _ in batches for key in keys] == GOOD
    assert torch.equal(torch.cat([features for _, features in batches]), expected(view))
    assert len(dataset) == COUNT - 1


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_each_start_method_read_the_same(location: str, method: str) -> None:
    dataset = epalm.FeatureDataset(location)
    assert torch.equal(dataset[0][1], expected()[0])  # threads and files of this process are open
    context = multiprocessing.get_context(method)
    loader = DataLoader(dataset, batch_size=50, num_workers=1, multiprocessing_context=context)
    assert torch.equal(torch.cat([features for _, features in loader]), expected())


def test_a_pickled_dataset_has_neither_features_nor_keys(location: str) -> None:
    dataset = epalm.FeatureDataset(location)
    key, features = dataset[-1]
    assert (key, dataset.key(-1)) == (KEYS[-1], KEYS[-1])
    data = pickle.dumps(dataset)
    assert KEYS[3].encode() not in data
    copy = pickle.loads(data)
    assert torch.equal(copy[-1][1], features)


def test_given_keys_decide_samples_and_order(location: str) -> None:
    dataset = epalm.FeatureDataset(location, keys=[KEYS[149], KEYS[2], KEYS[149]])
    assert [key for key, _ in dataset] == [KEYS[149], KEYS[2], KEYS[149]]
    assert torch.equal(dataset[1][1], expected()[2])
    with pytest.raises(UnknownKeyError, match="zebra"):
        epalm.FeatureDataset(location, keys=["zebra"])
    with pytest.raises(StoreError, match=f"{BROKEN} could not be encoded"):
        epalm.FeatureDataset(location, keys=[BROKEN])


def test_an_index_or_a_view_out_of_range_is_refused(location: str) -> None:
    dataset = epalm.FeatureDataset(location)
    for index in (COUNT - 1, -COUNT):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 149 samples"):
            dataset[index]
    with pytest.raises(StoreError, match="has 2 views, numbered from 0: there is no view 2"):
        epalm.FeatureDataset(location, view=2)


def test_a_store_that_was_replaced_is_refused(tmp_path: Path) -> None:
    location = finished_store(tmp_path / "s.zarr").location
    dataset = epalm.FeatureDataset(location)
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    (tmp_path / "s.zarr").rename(tmp_path / "old.zarr")
    finished_store(location, encoder="other")
    with pytest.raises(CacheMismatchError, match="encoder is other, expected vit-b16"):
        copy[0]
