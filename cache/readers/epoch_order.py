"""In which order an epoch serves its examples, and which view of each record it sees.

Both depend on numbers that a run stores, never on the machine: a resumed run sees what it would
have seen.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epalm.errors import StoreError

Rows: TypeAlias = NDArray[np.intp]

BLOCK_ROWS = 16
"""Rows of a block: 147 kB at 6 x 768 in float16, read at 0.8 of a disk's sequential speed."""

BLOCKS_PER_SAMPLE = 5
"""A pool of at least so many blocks per example of a batch keeps `design_effect` below 1.2."""


@dataclass(frozen=True)
class EpochOrder:
    """One pass over examples: pool after pool.

    Attributes:
        places: (M,) places among the examples, each once, in the order of serving.
        pool_ends: (P,) ascending; pool p ends before `places[pool_ends[p]]`, the last one is M.
    """

    places: Rows
    pool_ends: Rows

    def after(self, served: int) -> "EpochOrder":
        """What is left behind the first `served` examples."""
        left = self.pool_ends[self.pool_ends > served] - served
        return EpochOrder(self.places[served:], left)


@dataclass(frozen=True)
class ShuffleSpec:
    """How an epoch is shuffled.

    Attributes:
        kind: "uniform" over all examples. "blocks": blocks of `BLOCK_ROWS` neighbouring rows are
            shuffled over the whole store and dealt into pools; examples are shuffled within each
            pool, so that a reader holds only a pool in memory.
        pool_blocks: K, blocks in a pool; 0 for "uniform".
    """

    kind: Literal["uniform", "blocks"] = "uniform"
    pool_blocks: int = 0

    def __post_init__(self) -> None:
        """Refuse what no order is."""
        if (self.kind == "blocks") != (self.pool_blocks > 0):
            raise StoreError(f"an order {self.kind!r} cannot have pools of {self.pool_blocks}")

    def draw(self, rows: Rows, random: np.random.Generator) -> EpochOrder:
        """The order of one epoch.

        Args:
            rows: (M,) the store's row of each example; several may share one.
            random: seeded with run and epoch; advanced.
        """
        shuffled = random.permutation(len(rows))
        if self.kind == "uniform":
            return EpochOrder(shuffled, np.array([len(rows)]))
        blocks, block = np.unique(rows // BLOCK_ROWS, return_inverse=True)
        pools = -(-len(blocks) // self.pool_blocks)
        pool_of_block = random.permutation(len(blocks)) * pools // len(blocks)
        pool = pool_of_block[block]
        places = shuffled[np.argsort(pool[shuffled], kind="stable")]
        return EpochOrder(places, np.cumsum(np.bincount(pool, minlength=pools)))


def design_effect(batch_size: int, pool_blocks: int) -> float:
    """How much larger the variance of a batch is than under a uniform order, at worst.

    That is for a store sorted by what is to be learnt: 1 + (B - 1)(block - 1)/(pool - 1), the
    variance of the mean of a batch drawn from a pool of whole blocks.
    """
    pool = pool_blocks * BLOCK_ROWS
    return 1 + (batch_size - 1) * (BLOCK_ROWS - 1) / (pool - 1)


def pick_views(seed: int, epoch: int, keys: Sequence[str], views: int) -> Rows:
    """(B,) the view of each record that an epoch sees, 0..views - 1.

    A hash of (seed, epoch, key) picks it: all examples of one record agree within an epoch.
    """
    if views == 1:
        return np.zeros(len(keys), np.intp)
    base = hashlib.blake2b(f"{seed} {epoch} ".encode(), digest_size=8)
    return np.fromiter((_draw(base, key) % views for key in keys), np.intp, len(keys))


def _draw(base: "hashlib.blake2b", key: str) -> int:
    own = base.copy()
    own.update(key.encode())
    return int.from_bytes(own.digest(), "little")
