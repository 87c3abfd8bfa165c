"""Refuses several copies of one training that were not started by torchrun."""

from collections.abc import Mapping

from epalm.errors import UsageError

COUNTS = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "WORLD_SIZE": "a launcher that is not torchrun",
}
"""Variable with the number of processes -> program that sets it: Open MPI, MVAPICH2, MPICH's Hydra,
and scripts after the manual of torch.distributed."""


NEEDS_SEVERAL = (
    "--shard-weights needs several processes, found one: start it with `torchrun --nproc-per-node "
    "N --no-python epalm-train ...`, or leave the option out"
)
"""Message about sharding in a single process."""


def check_launcher(environment: Mapping[str, str]) -> None:
    """Refuse to start as one of several processes that are not connected.

    Args:
        environment: environment of this process. torchrun sets TORCHELASTIC_RUN_ID. srun sets
            SLURM_STEP_ID (its manual); a batch script itself runs in one process, whatever
            SLURM_NTASKS is.

    Raises:
        UsageError: gives the command that trains with all processes.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return
    for launcher, count in _launched(environment):
        if count.isdecimal() and int(count) > 1:
            raise UsageError(
                f"{launcher} started {count} copies of the same training: for one training in "
                "several processes, start `torchrun --nproc-per-node PROCESSES --no-python "
                "epalm-train ...` once per machine (docs/how_to/many_machines.md); for a "
                "training in one process, start one copy"
            )


def check_several_processes(environment: Mapping[str, str]) -> None:
    """Refuse to shard weights in a process that torchrun did not start.

    Args:
        environment: environment of this process.

    Raises:
        UsageError: gives the command that starts several processes.
    """
    if "TORCHELASTIC_RUN_ID" not in environment:
        raise UsageError(NEEDS_SEVERAL)


def _launched(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Launchers that may have started this process, with the number of processes they report."""
    launchers = []
    if "SLURM_STEP_ID" in environment or environment.get("SLURM_PROCID", "0") != "0":
        tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", ""))
        launchers.append(("srun", tasks))
    return launchers + [
        (name, environment[key]) for key, name in COUNTS.items() if key in environment
    ]
