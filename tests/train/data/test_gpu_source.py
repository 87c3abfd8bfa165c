"""Features in GPU memory; tests/cache/readers/test_open_reader.py tests every reader."""

from pathlib import Path

import numpy as np
import pytest
import torch

from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.open_reader import index_store, select_subset
from epalm.cache.store import Store
from epalm.train.data.gpu_source import gpu_budget, load_resident
from tests.train.helpers import make_world


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root: Path = tmp_path_factory.mktemp("world")
    return Store.open(make_world(root).store)


def test_the_processor_has_no_gpu_budget() -> None:
    assert gpu_budget("cpu", "auto") is None
    assert gpu_budget("cpu", "gpu") is None


def test_batches_are_tensors_of_their_own(store: Store) -> None:
    source = load_resident(select_subset(store, index_store(store)), "cpu")
    rows = np.arange(20)
    batches = list(source.stream(ReadPlan(rows, np.zeros(20, np.intp), np.array([20])), 8))
    assert [len(batch) for batch in batches] == [8, 8, 4]
    keys = [store.keys[row] for row in range(20) if row != 3]
    whole = torch.cat(batches)
    assert torch.equal(whole[[row for row in range(20) if row != 3]], source.read(keys))


@pytest.mark.gpu
def test_features_on_a_gpu_equal_those_of_the_store_and_stay_there(store: Store) -> None:
    selection = select_subset(store, index_store(store))
    actual = load_resident(selection, "cuda").read(["0.png", "9.png"])
    assert actual.device.type == "cuda"
    assert torch.equal(actual.cpu(), load_resident(selection, "cpu").read(["0.png", "9.png"]))
    budget = gpu_budget("cuda", "auto")
    assert budget is not None
    assert 0 < budget < (gpu_budget("cuda", "gpu") or 0)
