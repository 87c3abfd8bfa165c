"""Several copies of one training are refused; one process is not, whatever starts it."""

import pytest
from typer.testing import CliRunner

from epalm.errors import UsageError
from epalm.train.cli import app
from epalm.train.parallel.launcher_check import check_launcher

STEP = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (STEP | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, "srun started 4 copies"),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, "srun started 4 copies"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "mpirun started 2 copies"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "mpirun started 2 copies"),
        ({"RANK": "0", "WORLD_SIZE": "8", "MASTER_ADDR": "a"}, "not torchrun started 8 copies"),
    ],
)
def test_copies_are_refused_with_the_right_command(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=rf"{words} .*torchrun --nproc-per-node .* --no-python"):
        check_launcher(environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["--features", "nowhere.zarr"])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a batch script itself: one process
        STEP | {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"},
        STEP | {"SLURM_NTASKS": "2", "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "16", "RANK": "0"},
        {"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "1", "WORLD_SIZE": "1"},
        {"WORLD_SIZE": ""},
    ],
)
def test_one_process_and_torchrun_are_not(environment: dict[str, str]) -> None:
    check_launcher(environment)
