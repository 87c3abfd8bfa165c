"""Several copies of one training, started by something other than torchrun, are refused."""

from collections.abc import Mapping

from epalm.errors import UsageError

COUNTS = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "WORLD_SIZE": "a launcher that is not torchrun",
}
"""Variable with the number of processes -> what sets it: Open MPI, MVAPICH2, MPICH's Hydra, and
scripts after the manual of torch.distributed."""


def check_launcher(environment: Mapping[str, str]) -> None:
    """Refuse to be one of several processes that know nothing of each other.

    Args:
        environment: of this process. torchrun sets TORCHELASTIC_RUN_ID. srun sets SLURM_STEP_ID
            (its manual); in a batch script itself there is one process, whatever SLURM_NTASKS is.

    Raises:
        UsageError: gives the command that trains with all processes.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        return
    for launcher, count in _launched(environment):
        if count.isdecimal() and int(count) > 1:
            raise UsageError(
                f"{launcher} started {count} copies of the same training: to share one training "
                "among processes, start `torchrun --nproc-per-node PROCESSES --no-python "
                "epalm-train ...` once per machine (docs/many_machines.md); for a training alone, "
                "start one process"
            )


def _launched(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """What may have started this process, and the number of processes that it reports."""
    found = []
    if "SLURM_STEP_ID" in environment or environment.get("SLURM_PROCID", "0") != "0":
        tasks = environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", ""))
        found.append(("srun", tasks))
    return found + [(name, environment[key]) for key, name in COUNTS.items() if key in environment]
