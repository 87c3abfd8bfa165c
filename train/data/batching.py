"""What meets in a batch: questions of one picture, texts of like length.

Both keep every example once per epoch and within its pool (see
`epalm.cache.readers.epoch_order.EpochOrder`). Both change which examples share a step, and so the
course of training: a batch of 64 with 5 questions per picture sees 13 pictures, and with buckets
the examples of a step have like lengths.
"""

import numpy as np
from numpy.typing import NDArray

from epalm.cache.readers.epoch_order import EpochOrder, Rows


def group_media(whole: EpochOrder, media: Rows, size: int) -> tuple[EpochOrder, Rows]:
    """Bring up to `size` examples of one medium together.

    A medium's examples are dealt into units of `size` in the order of serving; each unit is served
    where its first example was.

    Args:
        whole: the order.
        media: (M,) what number of medium the example at each place of the store's list has.
        size: examples per unit, 1 leaves the order.

    Returns:
        The new order, and (M,) the unit of each position in it.
    """
    positions = np.arange(len(whole.examples))
    if size == 1:
        return whole, positions
    pools = np.searchsorted(whole.pool_ends, positions, side="right")
    served = media[whole.examples]
    by_medium = np.lexsort((positions, served, pools))
    rank = _rank_in_run(pools[by_medium], served[by_medium])
    opens = rank % size == 0
    unit = np.empty(len(positions), np.intp)
    unit[by_medium] = by_medium[opens][np.cumsum(opens) - 1]  # a unit is named by its first place
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
    """Bring examples of like length together within windows of some batches.

    Args:
        whole: the order.
        units: (M,) unit of each position, see `group_media`: they stay together, and count as long
            as their longest example.
        lengths: (M,) tokens of the example at each place of the list.
        batch_size: B.
        window: batches in a window, 0 leaves the order.
        random: shuffles the batches of each window.
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
    lot = random.random(len(positions))
    drawn = np.where(full, lot[first + batch], 1.0)  # what is left over stays at the part's end
    shuffled = np.lexsort((positions, drawn, part))
    return EpochOrder(whole.examples[sort][shuffled], whole.pool_ends)


def _rank_in_run(*columns: Rows) -> NDArray[np.intp]:
    """(M,) how many equal neighbours stand before each entry."""
    positions = np.arange(len(columns[0]))
    changed = np.zeros(len(positions), bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return positions - np.maximum.accumulate(np.where(changed, positions, 0))
