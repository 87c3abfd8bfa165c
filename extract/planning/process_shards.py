"""Which shards of a store a process makes: a pure function of its number, without any talk.

Process i of n owns the shards s with s mod n = i. Nothing is locked and nobody waits: two processes
that own the same shard, because n was changed between them, write the same bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from epalm.devices import launcher_number, torchrun_place
from epalm.errors import UsageError


@dataclass(frozen=True)
class ProcessShard:
    """The part of the shards that one of several processes makes.

    Attributes:
        index: number of this process, 0-based.
        count: number of processes.
        told_by: where the numbers come from, for people.
    """

    index: int = 0
    count: int = 1
    told_by: str = ""

    def __post_init__(self) -> None:
        """Refuse a number that no process can have.

        Raises:
            UsageError: the index is not below the count.
        """
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"share {self.index}/{self.count} ({self.told_by}): the first of n is 0/n, the "
                "last is (n-1)/n"
            )

    def owns(self, shard: int) -> bool:
        """Whether this process makes the shard."""
        return shard % self.count == self.index

    @classmethod
    def parse(cls, text: str) -> Self:
        """The share written as `i/n`.

        Raises:
            UsageError: another form.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match:
            raise UsageError(f"--shard {text!r}: wanted i/n, e.g. 0/8 for the first of eight")
        return cls(int(match[1]), int(match[2]), "--shard")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The share that torchrun or SLURM gave this process; all shards elsewhere.

        torchrun: RANK of WORLD_SIZE. SLURM: the place in the job array, and within it the process
        of the step that srun started. Variables as in the manuals of torch.distributed.run and of
        sbatch ("OUTPUT ENVIRONMENT VARIABLES").

        Raises:
            UsageError: a job array with gaps, whose tasks cannot tell their place, or a variable
                that holds no number; outside of a job array an empty one counts as absent.
        """
        if "TORCHELASTIC_RUN_ID" in environment:
            return cls(*torchrun_place(environment), "torchrun")
        task, tasks = _array_place(environment)
        process, processes = 0, 1
        if "SLURM_STEP_ID" in environment:  # in a batch script itself SLURM_PROCID is always 0
            process = launcher_number(environment, "SLURM_PROCID", 0)
            processes = launcher_number(environment, "SLURM_STEP_NUM_TASKS", 1, least=1)
        count = tasks * processes
        return cls(task * processes + process, count, "SLURM" if count > 1 else "")


ALL = ProcessShard()
"""One process makes every shard."""


def _array_place(environment: Mapping[str, str]) -> tuple[int, int]:
    """(place, size) of this task in its job array."""
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
            "cannot tell its place: give --shard, e.g. --shard $SLURM_ARRAY_TASK_ID/<shards>"
        )
    return (number - first) // step, count
