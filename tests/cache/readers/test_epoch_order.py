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
"""Three examples of each of 1000 rows, which do not lie in order."""


def draw(order: ShuffleSpec, rows: np.ndarray = ROWS, seed: int = 5) -> EpochOrder:
    return order.draw(rows, np.random.default_rng([seed, 2]))


def test_the_uniform_order_is_the_one_of_published_runs() -> None:
    drawn = ShuffleSpec().draw(np.arange(12), np.random.default_rng([0, 1]))
    assert drawn.examples.tolist() == [0, 7, 1, 11, 3, 10, 4, 6, 9, 8, 2, 5]
    assert drawn.pool_ends.tolist() == [12]


def test_the_uniform_order_leaves_the_generator_where_answers_are_drawn_from() -> None:
    ours, plain = np.random.default_rng([3, 4]), np.random.default_rng([3, 4])
    places = ShuffleSpec().draw(ROWS, ours).examples
    assert np.array_equal(places, plain.permutation(len(ROWS)))
    assert ours.random() == plain.random()


@pytest.mark.parametrize(
    "order", [ShuffleSpec(), ShuffleSpec("blocks", 7), ShuffleSpec("blocks", 1000)]
)
def test_each_example_comes_once_and_no_two_epochs_agree(order: ShuffleSpec) -> None:
    first, again, other = draw(order), draw(order), draw(order, seed=6)
    assert np.array_equal(np.sort(first.examples), np.arange(len(ROWS)))
    assert np.array_equal(first.examples, again.examples)
    assert (first.examples != other.examples).mean() > 0.9


def test_a_pool_holds_whole_blocks_from_all_over_the_store() -> None:
    drawn = draw(ShuffleSpec("blocks", 7))
    pools = np.split(ROWS[drawn.examples], drawn.pool_ends[:-1])
    blocks = [set((rows // BLOCK_ROWS).tolist()) for rows in pools]
    assert drawn.pool_ends[-1] == len(ROWS)
    assert len(pools) == 9  # 63 blocks in pools of 7
    assert all(len(found) == 7 for found in blocks)
    assert len(set.union(*blocks)) == 63
    assert np.mean([max(found) - min(found) for found in blocks]) > 30
    for rows in pools:
        assert (np.abs(np.diff(rows // BLOCK_ROWS)) > 0).mean() > 0.7


def test_rows_without_an_example_take_no_place_in_a_pool() -> None:
    rows = np.array([5, 5, 200, 900, 901])
    drawn = draw(ShuffleSpec("blocks", 2), rows)
    assert sorted(drawn.examples.tolist()) == [0, 1, 2, 3, 4]
    assert len(drawn.pool_ends) == 2


def test_what_is_left_of_a_pass_is_its_end() -> None:
    whole = draw(ShuffleSpec("blocks", 7))
    left = whole.after(1000)
    assert np.array_equal(left.examples, whole.examples[1000:])
    assert left.pool_ends.tolist() == [end - 1000 for end in whole.pool_ends if end > 1000]
    assert whole.after(len(ROWS)).pool_ends.tolist() == []


@pytest.mark.parametrize(("pool_blocks", "high"), [(160, 1.2), (32, 2.1)])
def test_batches_vary_as_the_closed_form_says_on_a_store_sorted_by_class(
    pool_blocks: int, high: float
) -> None:
    batch, rows = 32, np.arange(40_960)
    classes = rows // 1024
    counts = []
    for epoch in range(4):
        order = ShuffleSpec("blocks", pool_blocks).draw(rows, np.random.default_rng(epoch))
        drawn = classes[order.examples].reshape(-1, batch)
        counts.append((drawn[:, :, None] == np.arange(40)).sum(axis=1))
    share = 1 / 40
    found = np.var(np.concatenate(counts)) / (batch * share * (1 - share))
    assert found == pytest.approx(design_effect(batch, pool_blocks), rel=0.08)
    assert found < high


def test_an_order_without_sense_is_refused() -> None:
    with pytest.raises(StoreError, match="'uniform' cannot have pools of 3"):
        ShuffleSpec("uniform", 3)
    with pytest.raises(StoreError, match="'blocks' cannot have pools of 0"):
        ShuffleSpec("blocks")


KEYS = [f"{number}.jpg" for number in range(3000)]


def test_views_are_picked_evenly_and_anew_each_epoch() -> None:
    first, second = pick_views(0, 0, KEYS, 4), pick_views(0, 1, KEYS, 4)
    assert np.bincount(first, minlength=4) == pytest.approx(np.full(4, 750), abs=75)
    assert (first == second).mean() == pytest.approx(0.25, abs=0.03)


def test_all_questions_about_a_picture_see_the_view_that_runs_always_saw() -> None:
    assert pick_views(7, 3, ["é.jpg", "b", "c", "é.jpg", "d"], 5).tolist() == [2, 3, 1, 2, 3]


def test_a_store_of_one_view_gives_it() -> None:
    assert pick_views(0, 0, KEYS[:3], 1).tolist() == [0, 0, 0]
