from typing import Any

import numpy as np
import pytest

from epalm.cache.readers.epoch_order import (
    BLOCK_ROWS,
    EpochOrder,
    ShuffleSpec,
    design_effect,
    pick_views,
)
from epalm.errors import StoreError

ROWS = np.repeat(np.arange(1000), 3)[::-1].copy()
"""Three examples of each of 1000 rows, in descending order."""


def draw(order: ShuffleSpec, rows: np.ndarray = ROWS, seed: int = 5) -> EpochOrder:
    return order.draw(rows, np.random.default_rng([seed, 2]))


def test_the_uniform_order_of_a_seed_stays_the_same_in_every_version() -> None:
    drawn = ShuffleSpec().draw(np.arange(12), np.random.default_rng([0, 1]))
    assert drawn.examples.tolist() == [0, 7, 1, 11, 3, 10, 4, 6, 9, 8, 2, 5]
    assert drawn.pool_ends.tolist() == [12]


def test_the_uniform_order_advances_the_generator_like_one_permutation() -> None:
    ours, plain = np.random.default_rng([3, 4]), np.random.default_rng([3, 4])
    examples = ShuffleSpec().draw(ROWS, ours).examples
    assert np.array_equal(examples, plain.permutation(len(ROWS)))
    assert ours.random() == plain.random()


@pytest.mark.parametrize(
    "order", [ShuffleSpec(), ShuffleSpec("blocks", 7), ShuffleSpec("blocks", 1000)]
)
def test_each_epoch_has_every_example_once_in_another_order(order: ShuffleSpec) -> None:
    first, again, other = draw(order), draw(order), draw(order, seed=6)
    assert np.array_equal(np.sort(first.examples), np.arange(len(ROWS)))
    assert np.array_equal(first.examples, again.examples)
    assert (first.examples != other.examples).mean() > 0.9


def test_a_pool_has_whole_blocks_from_the_whole_store() -> None:
    drawn = draw(ShuffleSpec("blocks", 7))
    pools = np.split(ROWS[drawn.examples], drawn.pool_ends[:-1])
    blocks = [set((rows // BLOCK_ROWS).tolist()) for rows in pools]
    assert drawn.pool_ends[-1] == len(ROWS)
    assert len(pools) == 9  # 63 blocks in pools of 7
    assert all(len(pool) == 7 for pool in blocks)
    assert len(set.union(*blocks)) == 63
    assert np.mean([max(pool) - min(pool) for pool in blocks]) > 30
    for rows in pools:
        assert (np.abs(np.diff(rows // BLOCK_ROWS)) > 0).mean() > 0.7


def test_rows_without_examples_do_not_count_in_a_pool() -> None:
    rows = np.array([5, 5, 200, 900, 901])
    drawn = draw(ShuffleSpec("blocks", 2), rows)
    assert sorted(drawn.examples.tolist()) == [0, 1, 2, 3, 4]
    assert len(drawn.pool_ends) == 2


def test_the_rest_of_an_epoch_is_its_end() -> None:
    whole = draw(ShuffleSpec("blocks", 7))
    left = whole.after(1000)
    assert np.array_equal(left.examples, whole.examples[1000:])
    assert left.pool_ends.tolist() == [end - 1000 for end in whole.pool_ends if end > 1000]
    assert whole.after(len(ROWS)).pool_ends.tolist() == []


@pytest.mark.parametrize(("pool_blocks", "upper"), [(160, 1.2), (32, 2.1)])
def test_the_variance_of_batches_matches_design_effect_on_a_store_sorted_by_class(
    pool_blocks: int, upper: float
) -> None:
    batch, rows = 32, np.arange(40_960)
    classes = rows // 1024
    counts = []
    for epoch in range(4):
        order = ShuffleSpec("blocks", pool_blocks).draw(rows, np.random.default_rng(epoch))
        drawn = classes[order.examples].reshape(-1, batch)
        counts.append((drawn[:, :, None] == np.arange(40)).sum(axis=1))
    frequency = 1 / 40
    effect = np.var(np.concatenate(counts)) / (batch * frequency * (1 - frequency))
    assert effect == pytest.approx(design_effect(batch, pool_blocks), rel=0.08)
    assert effect < upper


WINDOWED = ShuffleSpec("blocks", 3, window_shards=4, shard_blocks=2)
"""Windows of about 4 shards of 32 rows, in pools of 3 blocks of 16."""


def test_windows_come_one_after_the_other() -> None:
    drawn, other = draw(WINDOWED), draw(WINDOWED, seed=6)
    for order in (drawn, other):
        assert np.array_equal(np.sort(order.examples), np.arange(len(ROWS)))
    assert (drawn.examples != other.examples).mean() > 0.9
    pools = np.split(ROWS[drawn.examples], drawn.pool_ends[:-1])
    shards = [set((rows // 32).tolist()) for rows in pools]
    assert len(pools) == 21  # 63 blocks in pools of 3
    spans = {
        shard: [number for number, pool in enumerate(shards) if shard in pool]
        for shard in range(32)
    }
    used = [max(pools) - min(pools) for pools in spans.values()]
    assert max(used) <= 3  # a window of 8 blocks is in at most 4 pools
    for span in range(0, 21, 3):
        assert len(set.union(*shards[span : span + 3])) <= 3 * WINDOWED.window_shards
    firsts = [min(pools) for pools in spans.values()]
    assert np.abs(np.corrcoef(firsts, range(32))[0, 1]) < 0.5  # shards are shuffled


def test_windows_are_part_of_a_resumed_epoch() -> None:
    whole = draw(WINDOWED)
    left = draw(WINDOWED).after(1234)
    assert np.array_equal(left.examples, whole.examples[1234:])


def test_a_window_of_all_shards_is_no_window() -> None:
    wide = draw(ShuffleSpec("blocks", 7, window_shards=1000, shard_blocks=2))
    pools = np.split(ROWS[wide.examples] // BLOCK_ROWS, wide.pool_ends[:-1])
    assert np.mean([max(pool) - min(pool) for pool in pools]) > 30


def test_the_variance_of_batches_from_windows_is_that_of_the_formula() -> None:
    batch, rows = 32, np.arange(81_920)
    classes = rows // 1024  # a class per shard
    counts = []
    for epoch in range(4):
        order = ShuffleSpec("blocks", 160, window_shards=10, shard_blocks=64)
        drawn = classes[order.draw(rows, np.random.default_rng(epoch)).examples]
        counts.append((drawn.reshape(-1, batch)[:, :, None] == np.arange(80)).sum(axis=1))
    effect = np.var(np.concatenate(counts)) / (batch / 80 * (1 - 1 / 80))
    assert effect == pytest.approx(design_effect(batch, 160, 10), rel=0.1)


@pytest.mark.parametrize(
    "numbers", [("blocks", 3, 4, 0), ("blocks", 3, 0, 4), ("uniform", 0, 2, 2)]
)
def test_contradictory_windows_are_refused(numbers: tuple[Any, ...]) -> None:
    with pytest.raises(StoreError, match="cannot have windows of"):
        ShuffleSpec(*numbers)


def test_contradictory_shuffle_specs_are_refused() -> None:
    with pytest.raises(StoreError, match="'uniform' cannot have pools of 3"):
        ShuffleSpec("uniform", 3)
    with pytest.raises(StoreError, match="'blocks' cannot have pools of 0"):
        ShuffleSpec("blocks")


KEYS = [f"{number}.jpg" for number in range(3000)]


def test_views_are_picked_uniformly_and_differ_between_epochs() -> None:
    first, second = pick_views(0, 0, KEYS, 4), pick_views(0, 1, KEYS, 4)
    assert np.bincount(first, minlength=4) == pytest.approx(np.full(4, 750), abs=75)
    assert (first == second).mean() == pytest.approx(0.25, abs=0.03)


def test_all_examples_of_a_sample_use_the_same_view_in_every_version() -> None:
    assert pick_views(7, 3, ["é.jpg", "b", "c", "é.jpg", "d"], 5).tolist() == [2, 3, 1, 2, 3]


def test_a_store_with_one_view_always_uses_it() -> None:
    assert pick_views(0, 0, KEYS[:3], 1).tolist() == [0, 0, 0]
