"""Means over the views of a store."""

import numpy as np
import pytest

from epalm.cache.readers.feature_source import ReadPlan
from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.cache.readers.view_mean import ViewMeanSource
from epalm.cache.spec import StoreSpec
from epalm.errors import UsageError
from tests.cache.helpers import memory_reader

KEYS = ["a.jpg", "b.jpg", "c.jpg"]
VALUES = np.random.default_rng(0).normal(size=(3, 4, 2, 5)).astype(np.float16)
SPEC = StoreSpec("coco", "vit", {}, layers=(0, 1), width=5, count=3, views=4)


@pytest.mark.parametrize("views", [2, 3, 4])
def test_features_are_the_mean_over_the_first_views(views: int) -> None:
    source = ViewMeanSource(memory_reader(SPEC, KEYS, VALUES), views)
    expected = np.stack(
        [np.mean([row[view].astype(np.float64) for view in range(views)], axis=0) for row in VALUES]
    )
    actual = source.read(["c.jpg", "a.jpg"])
    assert actual.dtype == np.float16
    np.testing.assert_allclose(actual, expected[[2, 0]], rtol=1e-3, atol=1e-4)
    plan = ReadPlan(np.array([1, 2, 0]), np.zeros(3, np.intp), np.array([3]))
    streamed = np.concatenate([block.copy() for block in source.stream(plan, 2)])
    np.testing.assert_allclose(streamed, expected[[1, 2, 0]], rtol=1e-3, atol=1e-4)
    blind = ShuffledSource(source, [KEYS], seed=0)
    np.testing.assert_allclose(blind.read(KEYS), expected[blind.rows(KEYS)], rtol=1e-3, atol=1e-4)


def test_more_views_than_the_store_has_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the store has 4: give at most 4, or .* --views 5`"):
        ViewMeanSource(memory_reader(SPEC, KEYS, VALUES), 5)
