"""Data-parallel training: each process computes a shard of every batch.

The model has no wrapper. The few trainable tensors have their gradients summed over the processes
after the backward pass; the frozen language model needs no communication.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from epalm.cache.readers.epoch_order import EpochOrder
from epalm.devices import launcher_number, torchrun_place
from epalm.errors import TrainingError, UsageError

Value = TypeVar("Value")

RANK_SEEDS = 1 << 40
"""Distance between the dropout seeds of two ranks; larger than any seed of a single process."""

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: only rank 0 scores validation texts."""


@dataclass(frozen=True)
class Group:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: rank of this process; only rank 0 writes files.
        world_size: number of processes.
        local_rank: rank of this process on its machine.
        local_world_size: number of processes on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The group that torchrun describes (manual of torch.distributed.run), else one process.

        Raises:
            UsageError: a variable that torchrun sets is absent or no number, or RANK is not below
                WORLD_SIZE.
        """
        if "TORCHELASTIC_RUN_ID" not in environment:
            return cls()
        minimums = {"LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        local = (launcher_number(environment, name, least=low) for name, low in minimums.items())
        return cls(*torchrun_place(environment), *local)

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def size(self, batch_size: int) -> int:
        """Number of a batch's examples that this process computes."""
        return self._start(batch_size, self.rank + 1) - self._start(batch_size, self.rank)

    def shard(self, whole: EpochOrder, batch_size: int) -> EpochOrder:
        """This process's part of an order: consecutive examples of each batch.

        Each example is in the part of one process. Those of a last, smaller batch are divided
        equally, as far as that goes, and no process gets more of them than `size`.
        """
        count = len(whole.examples)
        full = count - count % batch_size
        ranks = np.arange(full) % batch_size * self.world_size // batch_size
        ranks = np.append(ranks, self._last_ranks(count - full, batch_size))
        own = np.flatnonzero(ranks == self.rank)
        return EpochOrder(whole.examples[own], np.searchsorted(own, whole.pool_ends))

    def _last_ranks(self, count: int, batch_size: int) -> NDArray[np.int64]:
        """(count,) the rank of each example of a smaller batch.

        What is left after an equal division goes to processes that compute more of a full batch.
        """
        ranks = np.arange(self.world_size)
        starts = np.array([self._start(batch_size, rank) for rank in range(self.world_size + 1)])
        first = np.argsort(-np.diff(starts), kind="stable")
        sizes = np.full(self.world_size, count // self.world_size)
        sizes[first[: count % self.world_size]] += 1
        return np.repeat(ranks, sizes)

    def _start(self, batch_size: int, rank: int) -> int:
        """Position in a batch where the shard of a rank starts."""
        return -(-rank * batch_size // self.world_size)

    def device(self, picked: str) -> str:
        """The device of this process: the machine's GPU with its local rank.

        Raises:
            UsageError: there are fewer GPUs than processes, or one GPU is named for all of them.
        """
        if self.world_size > 1 and picked == "mps":
            raise UsageError("several processes cannot share an mps device: give --device cpu")
        if self.world_size == 1 or not picked.startswith("cuda"):
            return picked
        count = torch.cuda.device_count()
        if picked != "cuda" or self.local_world_size > count:
            raise UsageError(
                f"{self.local_world_size} processes on this machine, {count} GPUs, "
                f"--device {picked}: give --device cuda and torchrun --nproc-per-node {count}, or "
                "--device cpu"
            )
        return f"cuda:{self.local_rank}"

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, ordered by rank; returns when all have called it.

        Raises:
            TrainingError: another process ended.
        """
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with _translated():
            dist.all_gather_object(values, value)
        return values

    def average(self, loss: Tensor, weights: Sequence[nn.Parameter], terms: int) -> Tensor:
        """Turn gradients of this process's mean loss into those of the mean over all processes.

        Args:
            loss: scalar, the mean over `terms`.
            weights: trainable tensors, whose gradients are changed; a gradient that is None
                in all processes stays None.
            terms: number of samples or tokens of this process; 0 if its shard is empty.

        Returns:
            The mean over the terms of all processes; the same on each.

        Raises:
            TrainingError: another process ended.
        """
        if self.world_size == 1:
            return loss
        present = [float(weight.grad is not None) for weight in weights]
        head = torch.tensor([0.0, terms, *present], dtype=torch.float64, device=loss.device)
        head[0] = loss * terms
        with _translated():
            dist.all_reduce(head)
            total, *gradient_counts = head[1:].tolist()
            pending = []
            for weight, gradients in zip(weights, gradient_counts, strict=True):
                if not gradients:
                    continue
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad.mul_(terms / total)
                pending.append(dist.all_reduce(weight.grad, async_op=True))
            for work in pending:
                work.wait()
        return (head[0] / head[1]).to(loss.dtype)


ALONE = Group()
"""The group of a run in one process."""


@contextmanager
def joined(group: Group, device: str) -> Iterator[None]:
    """Connect the processes: by nccl between GPUs, else by gloo.

    Raises:
        TrainingError: the other processes did not connect.
    """
    if group.world_size == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    with _translated():
        dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def own_group() -> Group:
    """The group of this process, see `Group.from_environment`."""
    return Group.from_environment(os.environ)


@contextmanager
def translate_peer_failure() -> Iterator[None]:
    """Turn the error of a collective operation into one that says that another process ended.

    Raises:
        TrainingError: another process ended.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise _lost(error) from error
        raise


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> TrainingError:
    reason = str(error).splitlines()[0]
    return TrainingError(
        f"another process of this run ended, see its message ({reason}); run the same "
        "command again to resume from the last checkpoint"
    )


def check_same_step(group: Group, step: int) -> None:
    """Refuse to train if not all processes resume from the same step.

    Raises:
        TrainingError: some processes see another checkpoint.
    """
    steps = group.gather(step)
    if len(set(steps)) > 1:
        raise TrainingError(
            f"the processes resume from steps {steps}: give an --out that all machines share"
        )
