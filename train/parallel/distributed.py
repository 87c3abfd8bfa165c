"""Several processes that train one model: each computes a share of every batch.

No wrapper lies around the model. What is trained is a few tensors, whose gradients are summed over
the processes behind the backward pass; the frozen language model needs no exchange.
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
from torch import Tensor, nn

from epalm.cache.readers.epoch_order import EpochOrder
from epalm.devices import launcher_number, torchrun_place
from epalm.errors import TrainingError, UsageError

Value = TypeVar("Value")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: the first one alone scores validation texts."""


@dataclass(frozen=True)
class Group:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: number of this process; number 0 alone writes files.
        world: number of processes.
        local_rank: number of this process on its machine.
        local_world: number of processes on this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """As torchrun tells it (manual of torch.distributed.run); one process elsewhere.

        Raises:
            UsageError: a variable that torchrun sets is absent or no number, or RANK is not below
                WORLD_SIZE.
        """
        if "TORCHELASTIC_RUN_ID" not in environment:
            return cls()
        least = {"LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
        local = (launcher_number(environment, name, least=it) for name, it in least.items())
        return cls(*torchrun_place(environment), *local)

    @property
    def leads(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0

    def size(self, batch_size: int) -> int:
        """How many of a batch's examples this process computes."""
        return self._first(batch_size, self.rank + 1) - self._first(batch_size, self.rank)

    def share(self, whole: EpochOrder, batch_size: int) -> EpochOrder:
        """What this process serves: a run of each batch, where questions of a picture may meet."""
        positions = np.arange(len(whole.examples))
        within = positions % batch_size
        length = np.minimum(len(positions) - (positions - within), batch_size)
        mine = np.flatnonzero(within * self.world // length == self.rank)
        return EpochOrder(whole.examples[mine], np.searchsorted(mine, whole.pool_ends))

    def _first(self, batch_size: int, rank: int) -> int:
        """Where a process's share of a batch begins."""
        return -(-rank * batch_size // self.world)

    def device(self, picked: str) -> str:
        """The device of this process: of the machine's GPUs, the one of its number.

        Raises:
            UsageError: there are fewer GPUs, or one was asked for by number for all.
        """
        if self.world > 1 and picked == "mps":
            raise UsageError("several processes cannot share an mps device: give --device cpu")
        if self.world == 1 or not picked.startswith("cuda"):
            return picked
        count = torch.cuda.device_count()
        if picked != "cuda" or self.local_world > count:
            raise UsageError(
                f"{self.local_world} processes on this machine, {count} GPUs, --device {picked}: "
                f"give --device cuda and torchrun --nproc-per-node {count}, or --device cpu"
            )
        return f"cuda:{self.local_rank}"

    def gather(self, value: Value) -> list[Value]:
        """The value of every process, in order of rank; returns when all have called it.

        Raises:
            TrainingError: another process ended.
        """
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        with _talk():
            dist.all_gather_object(values, value)
        return values

    def average(self, loss: Tensor, weights: Sequence[nn.Parameter], terms: int) -> Tensor:
        """Turn gradients of this process's mean loss into those of the mean over all processes.

        Args:
            loss: scalar, the mean over `terms`.
            weights: their gradients are changed; one that no process has stays none.
            terms: samples or tokens of this process; 0 if it had no share of the batch.

        Returns:
            The mean over the terms of all processes; the same on each.

        Raises:
            TrainingError: another process ended.
        """
        if self.world == 1:
            return loss
        present = [float(weight.grad is not None) for weight in weights]
        head = torch.tensor([0.0, terms, *present], dtype=torch.float64, device=loss.device)
        head[0] = loss * terms
        with _talk():
            dist.all_reduce(head)
            total, *found = head[1:].tolist()
            waiting = []
            for weight, anywhere in zip(weights, found, strict=True):
                if not anywhere:
                    continue
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                weight.grad.mul_(terms / total)
                waiting.append(dist.all_reduce(weight.grad, async_op=True))
            for work in waiting:
                work.wait()
        return (head[0] / head[1]).to(loss.dtype)


ALONE = Group()
"""One process computes everything."""


@contextmanager
def joined(group: Group, device: str) -> Iterator[None]:
    """Connect the processes: tensors travel by nccl between GPUs, else by gloo.

    Raises:
        TrainingError: the others did not come.
    """
    if group.world == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    with _talk():
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
    """Tell what is meant if another process ends while this one waits for its weights.

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
def _talk() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> TrainingError:
    reason = str(error).splitlines()[0]
    return TrainingError(
        f"another process of this run ended, see its message ({reason}); the same command "
        "goes on from the last checkpoint"
    )
