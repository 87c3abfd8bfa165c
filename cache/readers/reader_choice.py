"""Choose how a command reads features: the fastest reader for which its memory suffices."""

from collections.abc import Sequence
from dataclasses import dataclass

from epalm.cache.readers.epoch_order import (
    BLOCK_ROWS,
    BLOCKS_PER_SAMPLE,
    ShuffleSpec,
    design_effect,
)
from epalm.console import byte_size
from epalm.errors import UsageError
from epalm.system_memory import free_memory

AUTO = "auto"

TRAIN_READERS = ("gpu", "ram", "mapped", "stream", "pread")
"""Readers of training, fastest first: gpu (all features on the device), ram (all in main memory),
mapped (memory-mapped files; only if chosen by name), stream (pools of blocks), pread (single rows,
by many threads)."""

LOCAL_READERS = ("ram", "mapped", "pread", "stream")
"""Readers that need neither a GPU nor an epoch order, fastest first."""

GOOD_POOL = 20
"""Blocks per pool, for each example of a batch, if memory allows: batch variance at most 1.05x."""

SMALL_POOL = 1024
"""Blocks per pool for small batches, if memory allows: 151 MB at 6 x 768 in float16."""

WINDOW_BYTES = 64 * 10**9
"""Bytes of shards that a block shuffle uses at a time. Every shard is compared with its commit
record before its first row is served, which takes about a minute for these."""

RAM_FRACTION = 0.5
"""Fraction of the free memory for features by default; the rest is for the language model."""


@dataclass(frozen=True)
class ReadRequirements:
    """The features that a command reads.

    Attributes:
        nbytes: size of the shards in use, in the views that are read.
        view_bytes: size of one view of one row.
        blocks: number of blocks of `BLOCK_ROWS` rows in the shards in use.
        batch_size: examples per step.
        window_shards: shards that a block shuffle may use at a time, see `fit_window`; 0 for all.
        shard_blocks: blocks per shard; 0 if all shards may be used.
    """

    nbytes: int
    view_bytes: int
    blocks: int
    batch_size: int
    window_shards: int = 0
    shard_blocks: int = 0


@dataclass(frozen=True)
class Budget:
    """Memory available for features.

    Attributes:
        ram: bytes of main memory.
        gpu: bytes of GPU memory; None without a GPU.
    """

    ram: int
    gpu: int | None = None


@dataclass(frozen=True)
class ReaderChoice:
    """A reader, the order that it serves, and one line for the log that explains the choice."""

    reader: str
    order: ShuffleSpec
    summary: str


def choose_reader(
    reader: str,
    requirements: ReadRequirements,
    budget: Budget,
    *,
    readers: Sequence[str],
    order: ShuffleSpec | None = None,
) -> ReaderChoice:
    """Choose a reader.

    Args:
        reader: one of `readers`, or "auto".
        requirements: the features to read.
        budget: memory available for them.
        readers: readers to choose from, fastest first.
        order: the order of the run that is resumed; None lets the reader decide.

    Raises:
        UsageError: the reader is unknown, or cannot work with this budget or order.
    """
    if reader not in (AUTO, *readers):
        raise UsageError(f"reader {reader!r} is unknown; known are {', '.join((AUTO, *readers))}")
    shuffle = order or _block_shuffle(requirements, budget.ram)
    obstacles = {name: _obstacle(name, requirements, budget, shuffle) for name in readers}
    if reader != AUTO and obstacles[reader]:
        raise UsageError(f"--reader {reader} cannot work: {obstacles[reader]}; use --reader auto")
    candidates = [name for name in readers if name != "mapped" and not obstacles[name]]
    chosen = candidates[0] if reader == AUTO else reader
    if order is None and chosen != "stream":
        shuffle = ShuffleSpec()
    return ReaderChoice(chosen, shuffle, _summary(chosen, requirements, budget, shuffle))


def fit_pool(requirements: ReadRequirements, ram: int) -> int:
    """Blocks per pool so that two pools and two batches fit into `ram` bytes; at least one.

    The pool is not made larger than good batches need, so that the same run has the same order on
    machines with different amounts of memory.
    """
    max_blocks = (ram // (2 * requirements.view_bytes) - requirements.batch_size) // BLOCK_ROWS
    enough = max(GOOD_POOL * requirements.batch_size, SMALL_POOL)
    return min(max(max_blocks, 1), enough, requirements.blocks)


def fit_window(shard_bytes: int, shards: int, copies: int | None) -> int:
    """Shards per window of a block shuffle; 0 if windows are not needed.

    Args:
        shard_bytes: size of a shard.
        shards: number of shards that are read.
        copies: limit of the local copies of a remote store, of which two windows fit into it; None
            for no limit, or for a store that needs no copies.
    """
    nbytes = WINDOW_BYTES if copies is None else min(WINDOW_BYTES, copies // 2)
    window = max(nbytes // shard_bytes, 1)
    return window if window < shards else 0


def _block_shuffle(requirements: ReadRequirements, ram: int) -> ShuffleSpec:
    pool, window = fit_pool(requirements, ram), requirements.window_shards
    if not window:
        return ShuffleSpec("blocks", pool)
    blocks = requirements.shard_blocks
    return ShuffleSpec("blocks", min(pool, window * blocks), window, blocks)


def pool_bytes(requirements: ReadRequirements, pool_blocks: int) -> int:
    """Size of two pools in bytes."""
    return 2 * min(pool_blocks, requirements.blocks) * BLOCK_ROWS * requirements.view_bytes


def ram_budget(reader: str) -> int:
    """Bytes of main memory for features: half of the free memory, all of it for reader "ram"."""
    return int(free_memory() * (1 if reader == "ram" else RAM_FRACTION))


def _obstacle(
    reader: str, requirements: ReadRequirements, budget: Budget, order: ShuffleSpec
) -> str:
    """Why a reader cannot serve an order within a budget; "" if it can."""
    size = byte_size(requirements.nbytes)
    if reader == "gpu":
        if budget.gpu is None:
            return "training runs on the CPU, there is no GPU memory for the features"
        if requirements.nbytes > budget.gpu:
            return f"the features take {size}, {byte_size(budget.gpu)} of GPU memory are available"
    if reader == "ram" and requirements.nbytes > budget.ram:
        return f"the features take {size}, {byte_size(budget.ram)} of memory are available"
    if reader == "stream":
        pools = pool_bytes(requirements, order.pool_blocks)
        if order.kind == "uniform":
            return "the run began with a uniform order, which is not divided into pools"
        if pools > budget.ram:
            return f"two pools take {byte_size(pools)}, {byte_size(budget.ram)} are available"
    return ""


def _summary(
    reader: str, requirements: ReadRequirements, budget: Budget, order: ShuffleSpec
) -> str:
    allowed = budget.gpu if reader == "gpu" and budget.gpu else budget.ram
    size = byte_size(requirements.nbytes)
    line = f"reader: {reader}, {size} of features, up to {byte_size(allowed)} allowed"
    if order.kind == "uniform":
        return line
    if order.window_shards:
        line += f", windows of {order.window_shards} shards"
    effect = design_effect(requirements.batch_size, order.pool_blocks, order.window_shards)
    line += f", pools of {order.pool_blocks} blocks, batch variance at most {effect:.2f}x"
    enough = min(BLOCKS_PER_SAMPLE * requirements.batch_size, requirements.blocks)
    if not order.window_shards and order.pool_blocks < enough:
        pool_rows = BLOCKS_PER_SAMPLE * requirements.batch_size * BLOCK_ROWS
        needed = 2 * pool_rows * requirements.view_bytes
        line += f" (at most 1.2x with {byte_size(needed)})"
    return line
