"""Bootstrap intervals against the normal approximation, and group means by hand."""

import numpy as np
import pytest

from epalm.errors import DataError
from epalm.metrics import intervals
from epalm.metrics.intervals import GroupMean, bootstrap_interval, group_means


def test_the_interval_of_many_values_is_close_to_the_normal_approximation() -> None:
    values = np.random.default_rng(3).exponential(2.0, 5_000)
    low, high = bootstrap_interval(values, rounds=4000)
    half = 1.95996 * values.std(ddof=1) / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.06 * half)


def test_the_level_sets_the_width() -> None:
    values = np.random.default_rng(4).normal(size=5000)
    wide, narrow = bootstrap_interval(values), bootstrap_interval(values, level=0.68)
    # 1.96 against 0.994 standard errors
    ratio = (wide[1] - wide[0]) / (narrow[1] - narrow[0])
    assert ratio == pytest.approx(1.95996 / 0.99446, rel=0.06)


def test_equal_values_give_an_interval_without_width() -> None:
    assert bootstrap_interval(np.full(17, 0.25)) == (0.25, 0.25)


def test_two_values_give_all_four_equally_likely_samples() -> None:
    # means 0, 1/2, 1/2, 1: a quarter of the samples lies at each end
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.8) == (0.0, 1.0)
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)


def test_the_seed_decides_the_interval_and_batches_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=100)
    whole = bootstrap_interval(values, seed=1)
    assert whole == bootstrap_interval(values, seed=1)
    assert whole != bootstrap_interval(values, seed=2)
    monkeypatch.setattr(intervals, "_DRAWS_AT_ONCE", 700)
    assert bootstrap_interval(values, seed=1) == pytest.approx(whole)


def test_no_values_have_no_interval() -> None:
    with pytest.raises(DataError, match="at least one value"):
        bootstrap_interval(np.array([]))


def test_group_means_put_the_largest_group_first_and_leave_out_the_nameless() -> None:
    values = np.array([1.0, 0.0, 1.0, 0.5, 9.0])
    groups = ["what", "how many", "what", "how many", ""]
    assert group_means(values, [*groups[:4], ""]) == [
        GroupMean("how many", 0.25, 2),
        GroupMean("what", 1.0, 2),
    ]
    assert group_means(values[:3], groups[:3])[0] == GroupMean("what", 1.0, 2)
