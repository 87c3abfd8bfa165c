"""The blind control: every sample gets the features of another sample of its group."""

import numpy as np
import pytest

from epalm.cache.readers.feature_source import NumpySource
from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.cache.spec import StoreSpec
from epalm.errors import UnknownKeyError
from tests.cache.helpers import memory_reader

KEYS = [f"{row}.jpg" for row in range(20)]


@pytest.fixture
def row_source() -> NumpySource:
    """A source whose features are twice the row number; row 4 is a failed sample."""
    spec = StoreSpec("coco", "vit", {}, layers=(0,), width=2, count=20, dtype="float32")
    values = np.arange(40, dtype=np.float32).reshape(20, 1, 1, 2)
    values[4] = np.nan
    return memory_reader(spec, KEYS, values)


def test_samples_are_permuted_within_their_groups(row_source: NumpySource) -> None:
    train = [key for key in KEYS[:12] if key != "4.jpg"]
    blind = ShuffledSource(row_source, [KEYS[:12], KEYS[12:20]], seed=0)
    rows = blind.rows(train).tolist()
    assert (blind.read(train)[:, 0, 0] / 2).tolist() == rows
    assert sorted(rows) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert all(partner != int(key.split(".")[0]) for key, partner in zip(train, rows, strict=True))
    assert sorted(blind.rows(KEYS[12:20])) == list(range(12, 20))
    with pytest.raises(UnknownKeyError, match=r"'20.jpg' is in no group"):
        blind.read(["20.jpg"])


def test_the_permutation_depends_only_on_the_seed(row_source: NumpySource) -> None:
    drawn = [ShuffledSource(row_source, [KEYS], seed).rows(KEYS[5:20]) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
