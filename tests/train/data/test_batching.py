import numpy as np
import pytest

from epalm.cache.readers.epoch_order import EpochOrder, ShuffleSpec
from epalm.train.data.batching import bucket_lengths, group_by_sample

COUNT, BATCH = 1000, 16


def drawn(kind: str) -> tuple[EpochOrder, np.ndarray]:
    """An order of examples that ask about 300 media, and each example's medium."""
    media = np.random.default_rng(1).integers(0, 300, COUNT)
    order = ShuffleSpec() if kind == "uniform" else ShuffleSpec("blocks", 3)
    return order.draw(media, np.random.default_rng(2)), media


def pools(order: EpochOrder) -> list[list[int]]:
    return [sorted(part.tolist()) for part in np.split(order.examples, order.pool_ends[:-1])]


def bucketed(
    order: EpochOrder, units: np.ndarray, lengths: np.ndarray, window: int = 5
) -> EpochOrder:
    random = np.random.default_rng(3)
    return bucket_lengths(order, units, lengths, batch_size=BATCH, window=window, random=random)


@pytest.mark.parametrize("kind", ["uniform", "blocks"])
def test_grouping_brings_questions_about_an_image_together_in_their_pool(kind: str) -> None:
    order, media = drawn(kind)
    grouped, units = group_by_sample(order, media, 4)
    assert pools(grouped) == pools(order)
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    assert len(set(units[starts])) == len(starts)
    sizes = np.diff([*starts, COUNT])
    assert sizes.max() == 4
    for start, size in zip(starts, sizes, strict=True):
        assert len(set(media[grouped.examples[start : start + size]])) == 1
    unsplit = sum(-(-np.bincount(media[pool]) // 4).sum() for pool in map(np.array, pools(order)))
    assert len(starts) == unsplit


def test_a_unit_is_served_where_its_first_example_was() -> None:
    whole = EpochOrder(np.array([0, 1, 2, 3, 4, 5]), np.array([6]))
    grouped, units = group_by_sample(whole, np.array([7, 8, 7, 9, 8, 7]), 2)
    assert grouped.examples.tolist() == [0, 2, 1, 4, 3, 5]
    assert units.tolist() == [0, 0, 1, 1, 3, 5]


def test_units_of_one_and_no_window_leave_the_order() -> None:
    order, media = drawn("blocks")
    same, units = group_by_sample(order, media, 1)
    assert same is order
    assert bucketed(order, units, media, window=0) is order


@pytest.mark.parametrize("kind", ["uniform", "blocks"])
@pytest.mark.parametrize("together", [1, 4])
def test_buckets_leave_little_padding_and_keep_pools(kind: str, together: int) -> None:
    order, media = drawn(kind)
    lengths = np.random.default_rng(4).integers(8, 24, COUNT)
    grouped, units = group_by_sample(order, media, together)
    sorted_order = bucketed(grouped, units, lengths)
    assert pools(sorted_order) == pools(order)
    if together == 1 and kind == "uniform":
        assert padding(sorted_order, lengths) < 0.1 < 0.25 < padding(order, lengths)
    else:
        assert padding(sorted_order, lengths) < padding(grouped, lengths)


def test_the_batches_of_a_window_come_in_random_order() -> None:
    order, _ = drawn("uniform")
    lengths = np.arange(COUNT)
    actual = bucketed(order, np.arange(COUNT), lengths).examples
    means = [actual[start : start + BATCH].mean() for start in range(0, 5 * BATCH, BATCH)]
    assert means != sorted(means)
    assert means != sorted(means, reverse=True)


def padding(order: EpochOrder, lengths: np.ndarray) -> float:
    """Share of a padded epoch that is padding."""
    batches = [order.examples[start : start + BATCH] for start in range(0, COUNT, BATCH)]
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    return float(1 - lengths.sum() / padded)
