"""Which shards of a store a process encodes, from its rank and the world size alone.

Process i of n owns the shards s with s mod n = i. There is no locking and no communication: two
processes that own the same shard, because n was changed between them, write the same bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from epalm.devices import launcher_number, torchrun_place
from epalm.errors import UsageError


@dataclass(frozen=True)
class ProcessShard:
    """The shards of a store that one of several processes encodes.

    Attributes:
        rank: 0-based number of this process.
        world_size: number of processes.
        source_name: what gave these numbers, for messages, e.g. "torchrun".
    """

    rank: int = 0
    world_size: int = 1
    source_name: str = ""

    def __post_init__(self) -> None:
        """Check the rank.

        Raises:
            UsageError: the rank is not below the world size.
        """
        if not 0 <= self.rank < self.world_size:
            raise UsageError(
                f"shard {self.rank}/{self.world_size} ({self.source_name}) does not exist: the "
                "first of n is 0/n, the last is (n-1)/n"
            )

    def owns(self, shard: int) -> bool:
        """Whether this process encodes the shard."""
        return shard % self.world_size == self.rank

    @classmethod
    def parse(cls, text: str, option: str = "--shard") -> Self:
        """Read `i/n`: rank i of a world size of n.

        Args:
            text: value of the option.
            option: name of the option, for messages.

        Raises:
            UsageError: another form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match:
            raise UsageError(f"{option} {text!r}: expected i/n, e.g. 0/8 for the first of eight")
        return cls(int(match[1]), int(match[2]), option)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read rank and world size as torchrun or SLURM set them; one process owns all otherwise.

        torchrun: RANK and WORLD_SIZE. SLURM: the index in the job array, and within an array task
        the process of the step that srun started. The variables are those of the manuals of
        torch.distributed.run and of sbatch ("OUTPUT ENVIRONMENT VARIABLES").

        Raises:
            UsageError: the job array has gaps, so that a task cannot compute its rank, or a
                variable is not a number. Outside of a job array an empty variable counts as
                absent.
        """
        if "TORCHELASTIC_RUN_ID" in environment:
            return cls(*torchrun_place(environment), "torchrun")
        task, tasks = _array_place(environment)
        process, processes = 0, 1
        if "SLURM_STEP_ID" in environment:  # in a batch script itself SLURM_PROCID is always 0
            process = launcher_number(environment, "SLURM_PROCID", 0)
            processes = launcher_number(environment, "SLURM_STEP_NUM_TASKS", 1, least=1)
        world_size = tasks * processes
        return cls(task * processes + process, world_size, "SLURM" if world_size > 1 else "")


ALL = ProcessShard()
"""A single process encodes every shard."""


def _array_place(environment: Mapping[str, str]) -> tuple[int, int]:
    """(0-based index of this task in its job array, number of tasks)."""
    array = "SLURM_ARRAY_TASK_"
    if not environment.get(f"{array}ID", "").strip():
        return 0, 1
    number = launcher_number(environment, f"{array}ID")
    first, last = (launcher_number(environment, f"{array}{name}") for name in ("MIN", "MAX"))
    step, count = (
        launcher_number(environment, f"{array}{name}", least=1) for name in ("STEP", "COUNT")
    )
    if (last - first) // step + 1 != count:
        raise UsageError(
            f"this SLURM job array has gaps ({count} tasks from {first} to {last}), so that a task "
            "cannot compute its rank: give --shard, e.g. --shard $SLURM_ARRAY_TASK_ID/<shards>"
        )
    return (number - first) // step, count
