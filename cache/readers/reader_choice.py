"""Which reader a command takes: the highest rung of the ladder that its memory allows."""

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
"""The ladder of an epoch: gpu (all vectors on the device), ram (all in memory), mapped (files in
the page cache; only if asked for), stream (pools of blocks), pread (single rows by threads)."""

LOCAL_READERS = ("ram", "mapped", "pread", "stream")
"""The ladder without a device or an order of its own."""

GOOD_POOL = 20
"""Blocks in a pool per example of a batch, if memory allows: variance at most 1.05-fold."""

SMALL_POOL = 1024
"""Blocks in a pool, if memory allows, however small the batch: 151 MB at 6 x 768 in float16."""

RAM_SHARE = 0.5
"""Part of the free memory that vectors take unasked; the rest is the language model's."""


@dataclass(frozen=True)
class ReadRequirements:
    """What is to be read.

    Attributes:
        nbytes: of the shards in use, in the views that are read.
        vector_bytes: of one view of one record.
        blocks: of `BLOCK_ROWS` rows, in the shards in use.
        batch_size: examples per step.
    """

    nbytes: int
    vector_bytes: int
    blocks: int
    batch_size: int


@dataclass(frozen=True)
class Budget:
    """What vectors may take.

    Attributes:
        ram: bytes of main memory.
        gpu: bytes of the device's memory; None without a GPU.
    """

    ram: int
    gpu: int | None = None


@dataclass(frozen=True)
class ReaderChoice:
    """A reader and the order it serves, with the reason in one line."""

    reader: str
    order: ShuffleSpec
    line: str


def choose_reader(
    asked: str,
    need: ReadRequirements,
    budget: Budget,
    *,
    readers: Sequence[str],
    order: ShuffleSpec | None = None,
) -> ReaderChoice:
    """Pick a reader.

    Args:
        asked: one of `readers`, or "auto".
        need: what is to be read.
        budget: what it may take.
        readers: the ones to pick from, the fastest first.
        order: that a run began with and has to keep; None lets the reader decide.

    Raises:
        UsageError: an unknown reader, or one that the budget or the order forbids.
    """
    if asked not in (AUTO, *readers):
        raise UsageError(f"reader {asked!r} is unknown; known are {', '.join((AUTO, *readers))}")
    served = order or ShuffleSpec("blocks", fit_pool(need, budget.ram))
    obstacles = {name: _obstacle(name, need, budget, served) for name in readers}
    if asked != AUTO and obstacles[asked]:
        raise UsageError(f"--reader {asked} cannot work: {obstacles[asked]}; use --reader auto")
    automatic = [name for name in readers if name != "mapped" and not obstacles[name]]
    reader = automatic[0] if asked == AUTO else asked
    if order is None and reader != "stream":
        served = ShuffleSpec()
    return ReaderChoice(reader, served, _line(reader, need, budget, served))


def fit_pool(need: ReadRequirements, ram: int) -> int:
    """Blocks in a pool, so that two pools and two batches fit into `ram` bytes; at least one.

    More than enough for good batches is not taken: the same run on a machine with other memory is
    to see the same order.
    """
    fitting = (ram // (2 * need.vector_bytes) - need.batch_size) // BLOCK_ROWS
    wanted = max(GOOD_POOL * need.batch_size, SMALL_POOL)
    return min(max(fitting, 1), wanted, need.blocks)


def pool_bytes(need: ReadRequirements, pool_blocks: int) -> int:
    """Bytes of the two pools of a streamed order."""
    return 2 * min(pool_blocks, need.blocks) * BLOCK_ROWS * need.vector_bytes


def ram_budget(asked: str) -> int:
    """Bytes of main memory that vectors may take: half of what is free, all if "ram" is asked."""
    return int(free_memory() * (1 if asked == "ram" else RAM_SHARE))


def _obstacle(reader: str, need: ReadRequirements, budget: Budget, order: ShuffleSpec) -> str:
    """Why a reader cannot serve an order within a budget; empty if it can."""
    size = byte_size(need.nbytes)
    if reader == "gpu" and budget.gpu is None:
        return "training runs on the CPU, there is no GPU to hold the vectors"
    if reader == "gpu" and need.nbytes > (budget.gpu or 0):
        return f"{size} of vectors, {byte_size(budget.gpu or 0)} of the GPU are free for them"
    if reader == "ram" and need.nbytes > budget.ram:
        return f"{size} of vectors, {byte_size(budget.ram)} of memory are free for them"
    if reader == "stream":
        pools = pool_bytes(need, order.pool_blocks)
        if order.kind == "uniform":
            return "the run began in a uniform order, which no pools can serve (see --fresh)"
        if pools > budget.ram:
            return f"two pools take {byte_size(pools)}, {byte_size(budget.ram)} are free for them"
    return ""


def _line(reader: str, need: ReadRequirements, budget: Budget, order: ShuffleSpec) -> str:
    allowed = budget.gpu if reader == "gpu" and budget.gpu else budget.ram
    line = f"reader: {reader}, {byte_size(need.nbytes)} of {byte_size(allowed)} allowed"
    if order.kind == "uniform":
        return line
    effect = design_effect(need.batch_size, order.pool_blocks)
    line += f", pools of {order.pool_blocks} blocks, variance of a batch at most {effect:.2f}-fold"
    if order.pool_blocks < min(BLOCKS_PER_SAMPLE * need.batch_size, need.blocks):
        wanted = 2 * BLOCKS_PER_SAMPLE * need.batch_size * BLOCK_ROWS * need.vector_bytes
        line += f" ({byte_size(wanted)} would make it 1.2 or less)"
    return line
