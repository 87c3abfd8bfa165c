"""Which examples meet in a batch: questions about one sample, texts of similar length.

Both functions keep every example once per epoch and within its pool (see
`epalm.cache.readers.epoch_order.EpochOrder`). Both change which examples share a step, and so the
course of training: a batch of 64 with 5 questions per image has 13 images, and with buckets the
texts of a step have similar lengths.
"""

import numpy as np
from numpy.typing import NDArray

from epalm.cache.readers.epoch_order import EpochOrder, Rows


def group_by_sample(whole: EpochOrder, sample_rows: Rows, size: int) -> tuple[EpochOrder, Rows]:
    """Bring up to `size` examples of one sample together.

    A sample's examples are split into units of `size` in their order; each unit moves to the
    position of its first example.

    Args:
        whole: order of the examples.
        sample_rows: (M,) row in the store of each example's sample.
        size: largest number of examples per unit; 1 leaves the order.

    Returns:
        The new order, and (M,) the unit of each position in it.
    """
    positions = np.arange(len(whole.examples))
    if size == 1:
        return whole, positions
    pools = np.searchsorted(whole.pool_ends, positions, side="right")
    rows = sample_rows[whole.examples]
    by_sample = np.lexsort((positions, rows, pools))
    rank = _rank_in_run(pools[by_sample], rows[by_sample])
    starts = rank % size == 0
    unit = np.empty(len(positions), np.intp)
    unit[by_sample] = by_sample[starts][np.cumsum(starts) - 1]  # a unit's id is its first position
    order = np.lexsort((positions, unit, pools))
    return EpochOrder(whole.examples[order], whole.pool_ends), unit[order]


def bucket_lengths(
    whole: EpochOrder,
    units: Rows,
    lengths: Rows,
    *,
    batch_size: int,
    window: int,
    random: np.random.Generator,
) -> EpochOrder:
    """Bring texts of similar length together within windows of several batches.

    Args:
        whole: order of the examples.
        units: (M,) unit of each position, see `group_by_sample`; a unit stays together and has the
            length of its longest example.
        lengths: (M,) number of tokens of each example's text.
        batch_size: B, examples per batch.
        window: batches per window; 0 leaves the order.
        random: generator that shuffles the batches of each window.
    """
    if not window:
        return whole
    positions = np.arange(len(whole.examples))
    ends = np.union1d(whole.pool_ends, np.arange(0, len(positions), window * batch_size))
    part = np.searchsorted(ends, positions, side="right")
    longest = np.zeros(len(positions), np.intp)
    np.maximum.at(longest, units, lengths[whole.examples])
    sort = np.lexsort((positions, units, longest[units], part))
    first = np.searchsorted(part, part)  # parts ascend, so this is each part's first position
    batch = (positions - first) // batch_size
    size = np.bincount(part)[part]
    full = batch < size // batch_size
    random_keys = random.random(len(positions))
    # An incomplete batch stays at the end of its window.
    keys = np.where(full, random_keys[first + batch], 1.0)
    shuffled = np.lexsort((positions, keys, part))
    return EpochOrder(whole.examples[sort][shuffled], whole.pool_ends)


def _rank_in_run(*columns: Rows) -> NDArray[np.intp]:
    """(M,) number of equal neighbors directly before each entry."""
    positions = np.arange(len(columns[0]))
    changed = np.zeros(len(positions), bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return positions - np.maximum.accumulate(np.where(changed, positions, 0))
