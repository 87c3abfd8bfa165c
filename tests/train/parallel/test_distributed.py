"""Several processes that train one model, as torchrun starts them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from epalm.errors import UsageError
from epalm.train.parallel.distributed import ALONE, Group
from tests.train.helpers import logged, make_world, train_command
from tests.train.parallel.ranks import (
    COMMAND,
    SURE,
    assert_killed_ranks_resume,
    assert_same_training,
    finish,
    run_alone,
    run_ranks,
    start_ranks,
    vary_answers,
    wait_for_epochs,
)


def test_without_torchrun_a_process_is_alone() -> None:
    assert Group.from_environment({"RANK": "3", "WORLD_SIZE": "8"}) == ALONE


def test_torchrun_tells_rank_and_machine() -> None:
    names = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"}
    group = Group.from_environment({"TORCHELASTIC_RUN_ID": "x", **names})
    assert group == Group(rank=9, world_size=16, local_rank=1, local_world_size=8)
    assert not group.leads


@pytest.mark.parametrize("value", ["", "none", "-1"])
def test_a_rank_that_is_no_number_is_named(value: str) -> None:
    names = {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": value, "LOCAL_WORLD_SIZE": "8"}
    with pytest.raises(UsageError, match=f"LOCAL_RANK is '{value}', expected a whole number"):
        Group.from_environment({"TORCHELASTIC_RUN_ID": "x", **names})


def test_a_rank_beyond_the_number_of_processes_is_refused() -> None:
    names = {"RANK": "16", "WORLD_SIZE": "16", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "8"}
    with pytest.raises(UsageError, match="RANK is 16, expected less than WORLD_SIZE, which is 16"):
        Group.from_environment({"TORCHELASTIC_RUN_ID": "x", **names})


@pytest.mark.parametrize("picked", ["cuda", "cuda:1"])
def test_each_process_takes_the_gpu_of_its_number_or_is_refused(
    monkeypatch: pytest.MonkeyPatch, picked: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Group(5, 8, 1, 2).device("cuda") == "cuda:1"
    assert Group(5, 8, 1, 2).device("cpu") == "cpu"
    assert ALONE.device(picked) == picked
    with pytest.raises(UsageError, match="on this machine, 2 GPUs"):
        Group(5, 8, 1, 4 if picked == "cuda" else 2).device(picked)


def test_one_process_keeps_loss_and_gradients_to_the_bit() -> None:
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([0.1, 0.7])
    loss = torch.tensor(0.3)
    assert ALONE.average(loss, [weight], 7) is loss
    assert weight.grad.tolist() == torch.tensor([0.1, 0.7]).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("batch_size=19", "normalize=token"),  # 39 examples: the last batch leaves one rank idle
        ("batch_size=7", "normalize=sample", "clip_norm=0.5", "inject=1:2"),  # an idle connector
    ],
)
def test_losses_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    world = make_world(tmp_path, epochs=6)
    vary_answers(world)
    changes = [*SURE, *(part for setting in settings for part in ("--set", setting))]
    run_alone(world, *changes, "--set", "weight_decay=0.1", "--name", "alone")
    run_ranks(world, 2, *changes, "--set", "weight_decay=0.1")
    assert_same_training(world, "run", "alone")


@pytest.mark.slow
def test_killed_processes_resume_with_the_losses_of_an_uninterrupted_run(tmp_path: Path) -> None:
    assert_killed_ranks_resume(make_world(tmp_path, epochs=12), epochs=2)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_and_one_process_alone_resumes(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=30)
    stopped = start_ranks(train_command(world, *SURE), 2)
    wait_for_epochs(world, stopped, 1)
    stopped[1].send_signal(signal.SIGTERM)
    codes, errors = finish(stopped)
    assert codes == [75, 75], errors
    assert 0 < len(logged(world, "val")) < 30
    run_alone(world, *SURE)
    run_alone(world, *SURE, "--name", "alone")
    assert_same_training(world, "run", "alone")


@pytest.mark.slow
def test_torchrun_trains_and_one_process_writes(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", *COMMAND[1:], *train_command(world)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("done in") == 1
    assert [line["epoch"] for line in logged(world, "val")] == [1, 2]


@pytest.mark.slow
def test_more_processes_than_a_batch_has_examples_are_refused(tmp_path: Path) -> None:
    ranks = start_ranks(train_command(make_world(tmp_path), "--set", "batch_size=1"), 2)
    codes, errors = finish(ranks)
    assert codes == [2, 2]
    assert "2 processes cannot divide batches of 1 examples" in errors[0]
