"""Selection of the device, and the rank and world size that launchers set."""

import re
from collections.abc import Mapping

from epalm.errors import UsageError

AUTO = "auto"
"""Selects CUDA if available, else Apple's mps (untested), else the CPU."""


DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")
"""Device types that torch knows and we accept."""


def check_device_name(name: str) -> None:
    """Refuse an invalid device name, without importing torch.

    Args:
        name: `AUTO`, a type such as "cuda", or one of several such as "cuda:1".

    Raises:
        UsageError: the name has another form.
    """
    if name != AUTO and not re.fullmatch(rf"({'|'.join(DEVICE_TYPES)})(:\d+)?", name):
        raise UsageError(
            f"--device {name} cannot be used: expected {AUTO}, {', '.join(DEVICE_TYPES)}, or one "
            "of several such as cuda:1"
        )


def pick_device(name: str) -> str:
    """Resolve `AUTO` and check that the device can be used.

    Args:
        name: `AUTO` or a name such as "cpu", "cuda", "cuda:1", "mps".

    Raises:
        UsageError: there is no such device, or it cannot be used.

    Returns:
        The device's name as torch spells it.
    """
    import torch

    if name == AUTO:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name} cannot be used: {reason}") from error
    return name


def peak_device_memory() -> int:
    """Peak bytes allocated by torch on any one GPU; 0 if no GPU was used."""
    import torch

    return max(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())), default=0)


def launcher_number(
    environment: Mapping[str, str], name: str, default: int | None = None, *, least: int = 0
) -> int:
    """Read an integer that torchrun or SLURM set in an environment variable.

    Args:
        environment: environment variables of this process.
        name: name of the variable; an empty value counts as absent.
        default: value if the variable is absent; None if it is required.
        least: smallest valid value.

    Raises:
        UsageError: the variable is absent or not such an integer.
    """
    text = environment.get(name, "").strip()
    if not text and default is not None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise UsageError(
            f"the environment variable {name} is {text!r}, expected a whole number of at least "
            f"{least}: start the command with torchrun, srun or sbatch, which set it, or unset "
            "the variables of that launcher"
        )
    return int(text)


def torchrun_place(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return rank and world size as torchrun set them.

    Raises:
        UsageError: RANK or WORLD_SIZE is absent or no number, or RANK is not below WORLD_SIZE.
    """
    rank = launcher_number(environment, "RANK")
    world = launcher_number(environment, "WORLD_SIZE", least=1)
    if rank >= world:
        raise UsageError(
            f"the environment variable RANK is {rank}, expected less than WORLD_SIZE, which is "
            f"{world}: start the command with torchrun, which sets both"
        )
    return rank, world
