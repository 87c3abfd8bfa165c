"""Bootstrap intervals against the normal approximation, and group means by hand."""

from dataclasses import replace

import numpy as np
import pytest

from epalm.errors import DataError
from epalm.metrics import intervals
from epalm.metrics.intervals import (
    GroupMean,
    all_intervals,
    bootstrap_interval,
    bootstrap_intervals,
    group_means,
)
from epalm.metrics.metric_registry import Scores


def test_the_interval_of_many_values_is_close_to_the_normal_approximation() -> None:
    values = np.random.default_rng(3).exponential(2.0, 5_000)
    low, high = bootstrap_interval(values, rounds=4000)
    half = 1.95996 * values.std(ddof=1) / np.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.06 * half)


def test_the_confidence_level_sets_the_width() -> None:
    values = np.random.default_rng(4).normal(size=5000)
    wide, narrow = bootstrap_interval(values), bootstrap_interval(values, level=0.68)
    # 1.96 against 0.994 standard errors
    ratio = (wide[1] - wide[0]) / (narrow[1] - narrow[0])
    assert ratio == pytest.approx(1.95996 / 0.99446, rel=0.06)


def test_equal_values_give_an_interval_of_width_zero() -> None:
    assert bootstrap_interval(np.full(17, 0.25)) == (0.25, 0.25)


def test_two_values_give_four_equally_likely_resamples() -> None:
    # means 0, 1/2, 1/2, 1: a quarter of the samples lies at each end
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.8) == (0.0, 1.0)
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5)


def test_the_interval_depends_on_the_seed_and_not_on_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(5).normal(size=100)
    whole = bootstrap_interval(values, seed=1)
    assert whole == bootstrap_interval(values, seed=1)
    assert whole != bootstrap_interval(values, seed=2)
    monkeypatch.setattr(intervals, "_MAX_BATCH_VALUES", 700)
    assert bootstrap_interval(values, seed=1) == pytest.approx(whole)


def test_an_interval_of_no_values_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one value"):
        bootstrap_interval(np.array([]))


def test_corpus_scores_are_computed_for_every_resample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statistics = np.random.default_rng(6).integers(1, 9, size=(60, 2)).astype(np.float64)
    actual = bootstrap_intervals(statistics, lambda sums: sums[:, :1] / sums[:, 1:], rounds=500)
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(500):
        rows = [statistics[row] for row in generator.integers(60, size=60)]
        ratios.append(sum(row[0] for row in rows) / sum(row[1] for row in rows))
    assert actual[0] == pytest.approx(tuple(np.quantile(ratios, (0.025, 0.975))))
    monkeypatch.setattr(intervals, "_MAX_BATCH_VALUES", 700)
    batched = bootstrap_intervals(statistics, lambda sums: sums[:, :1] / sums[:, 1:], rounds=500)
    assert batched[0] == pytest.approx(actual[0])


def test_a_score_has_its_own_interval_or_that_of_its_mean_or_none() -> None:
    each = np.array([0.0, 1.0, 1.0])
    scores = Scores(
        values={"mean": 2 / 3, "own": 0.5, "neither": 0.1},
        per_example={"mean": each, "own": each},
        headline="mean",
        intervals={"own": (0.2, 0.8)},
    )
    assert all_intervals(scores) == {"mean": bootstrap_interval(each), "own": (0.2, 0.8)}


@pytest.mark.parametrize("all_alike", [0.0, 1.0, 0.25])
def test_equal_scores_have_no_interval(all_alike: float) -> None:
    each = np.full(150, all_alike)
    scores = Scores(
        values={"mean": all_alike, "own": 0.5},
        per_example={"mean": each},
        headline="mean",
        intervals={"own": (0.5, 0.5)},
    )
    assert all_intervals(scores) == {}
    one_off = {"mean": np.append(each, 0.5)}
    assert all_intervals(replace(scores, per_example=one_off)).keys() == {"mean"}


def test_group_means_are_sorted_by_size_without_the_empty_group() -> None:
    values = np.array([1.0, 0.0, 1.0, 0.5, 9.0])
    groups = ["what", "how many", "what", "how many", ""]
    assert group_means(values, [*groups[:4], ""]) == [
        GroupMean("how many", 0.25, 2),
        GroupMean("what", 1.0, 2),
    ]
    assert group_means(values[:3], groups[:3])[0] == GroupMean("what", 1.0, 2)


def test_the_default_is_2000_resamples() -> None:
    values = np.random.default_rng(5).normal(size=11)
    drawn = np.random.default_rng(0).integers(11, size=(2000, 11))
    expected = np.quantile(values[drawn].mean(1), (0.025, 0.975))
    assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=1e-12)
    (corpus,) = bootstrap_intervals(values[:, None], lambda sums: sums / 11)
    assert corpus == pytest.approx(tuple(expected), abs=1e-12)
