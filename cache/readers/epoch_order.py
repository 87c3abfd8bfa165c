"""The order in which an epoch serves its examples, and the view of each sample that it uses.

Both depend only on numbers that a run stores, never on the machine, so a resumed run continues as
if it had not been interrupted.
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
"""Rows per block: 147 kB at 6 x 768 in float16, read at 0.8 of a disk's sequential speed."""

BLOCKS_PER_SAMPLE = 5
"""Blocks per pool, for each example of a batch, that keep `design_effect` below 1.2."""


@dataclass(frozen=True)
class EpochOrder:
    """The order of an epoch, divided into pools.

    Attributes:
        examples: (M,) index of each example, in the order of serving.
        pool_ends: (P,) ascending; pool p ends before `examples[pool_ends[p]]`, the last one is M.
    """

    examples: Rows
    pool_ends: Rows

    def after(self, served: int) -> "EpochOrder":
        """The rest of the epoch after the first `served` examples."""
        pool_ends = self.pool_ends[self.pool_ends > served] - served
        return EpochOrder(self.examples[served:], pool_ends)


@dataclass(frozen=True)
class ShuffleSpec:
    """How an epoch is shuffled.

    Attributes:
        kind: "uniform" shuffles all examples. "blocks" shuffles blocks of `BLOCK_ROWS` neighboring
            rows over the whole store, divides them into pools, and shuffles the examples within
            each pool, so that a reader needs only one pool in memory.
        pool_blocks: K, blocks per pool; 0 for "uniform".
        window_shards: W, shards per window; 0 if blocks are shuffled over the whole store. Shards
            are shuffled and divided into windows of about this number, and the blocks of a window
            are shuffled. So an epoch needs each shard for the time of one window, and a reader
            compares or copies few shards before the first batch.
        shard_blocks: blocks per shard; 0 without windows.
    """

    kind: Literal["uniform", "blocks"] = "uniform"
    pool_blocks: int = 0
    window_shards: int = 0
    shard_blocks: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that contradict the kind, or each other."""
        if (self.kind == "blocks") != (self.pool_blocks > 0):
            raise StoreError(f"an order {self.kind!r} cannot have pools of {self.pool_blocks}")
        windows = (self.window_shards > 0, self.shard_blocks > 0)
        if windows not in ((False, False), (self.kind == "blocks", True)):
            raise StoreError(
                f"an order {self.kind!r} cannot have windows of {self.window_shards} shards of "
                f"{self.shard_blocks} blocks"
            )

    def draw(self, rows: Rows, random: np.random.Generator) -> EpochOrder:
        """Draw the order of one epoch.

        Args:
            rows: (M,) the store's row of each example; several examples may share a row.
            random: generator seeded with run and epoch; its state advances.
        """
        shuffled = random.permutation(len(rows))
        if self.kind == "uniform":
            return EpochOrder(shuffled, np.array([len(rows)]))
        blocks, block = np.unique(rows // BLOCK_ROWS, return_inverse=True)
        pools = -(-len(blocks) // self.pool_blocks)
        position = random.permutation(len(blocks))
        if self.window_shards:
            position = self._within_windows(blocks, position, random)
        pool_of_block = position * pools // len(blocks)
        pool = pool_of_block[block]
        examples = shuffled[np.argsort(pool[shuffled], kind="stable")]
        return EpochOrder(examples, np.cumsum(np.bincount(pool, minlength=pools)))

    def _within_windows(self, blocks: Rows, position: Rows, random: np.random.Generator) -> Rows:
        """The position of each block if windows come one after the other.

        Args:
            blocks: number of each block, ascending.
            position: position of each block in a shuffle of all.
            random: generator that shuffles the shards.
        """
        shards, shard = np.unique(blocks // self.shard_blocks, return_inverse=True)
        windows = -(-len(shards) // self.window_shards)
        window = (random.permutation(len(shards)) * windows // len(shards))[shard]
        result = np.empty_like(position)
        result[np.lexsort((position, window))] = np.arange(len(blocks))
        return result


def design_effect(batch_size: int, pool_blocks: int, window_shards: int = 0) -> float:
    """Worst-case variance of a batch relative to a uniform order.

    The worst case is a store sorted by the training target: 1 + (B - 1)(block - 1)/(pool - 1), the
    relative variance of the mean of a batch drawn from a pool of whole blocks. With windows, shards
    also differ, and two examples of a batch are from the same one of W with probability 1/W.
    """
    same_block = (BLOCK_ROWS - 1) / (pool_blocks * BLOCK_ROWS - 1)
    same_shard = same_block + (1 - same_block) / window_shards if window_shards else same_block
    return 1 + (batch_size - 1) * same_shard


def pick_views(seed: int, epoch: int, keys: Sequence[str], views: int) -> Rows:
    """(B,) the view of each sample to use in an epoch, 0 to views - 1.

    The view is a hash of (seed, epoch, key), so all examples of a sample agree within an epoch.
    """
    if views == 1:
        return np.zeros(len(keys), np.intp)
    base = hashlib.blake2b(f"{seed} {epoch} ".encode(), digest_size=8)
    return np.fromiter((_hash_key(base, key) % views for key in keys), np.intp, len(keys))


def _hash_key(base: "hashlib.blake2b", key: str) -> int:
    digest = base.copy()
    digest.update(key.encode())
    return int.from_bytes(digest.digest(), "little")
