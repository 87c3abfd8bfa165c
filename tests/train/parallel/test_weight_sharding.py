"""Frozen weights sharded across processes, as torchrun starts them."""

import signal
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from epalm.errors import UsageError
from epalm.model.engine.language_model import load_language_model, weights_digest
from epalm.model.engine.model_batch import Batch
from epalm.model.epalm import trainable_parameters
from epalm.train.cli import app
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import load_recipe
from epalm.train.estimate.weight_memory import WeightPlacement, frozen_bytes
from epalm.train.parallel.distributed import Group
from epalm.train.parallel.weight_sharding import dummy_batch, layer_sharder
from tests.model.helpers import tiny_opt, tiny_variant
from tests.train.helpers import make_world, train_command
from tests.train.parallel.ranks import (
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        ("batch_size=19", "variant=full"),  # 39 examples: the last batch leaves one rank idle
        ("batch_size=7", "variant=ada", "normalize=sample", "num_beams=2", "recompute_layers=2"),
        ("batch_size=7", "variant=lin", "tail=drop", "inject=0:2"),
    ],
)
def test_losses_and_texts_are_those_of_one_process_with_whole_weights(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    world = make_world(tmp_path, epochs=4)
    vary_answers(world)
    changes = [*SURE, *(part for setting in settings for part in ("--set", setting))]
    run_alone(world, *changes, "--name", "alone")
    run_ranks(world, 2, *changes, "--shard-weights")
    assert_same_training(world, "run", "alone")


HELD = """
import sys
from epalm.model.engine.language_model import load_language_model, weights_digest
from epalm.train.parallel.distributed import joined, own_group
from epalm.train.config.recipe import load_recipe
from epalm.train.parallel.weight_sharding import layer_sharder

group, recipe = own_group(), load_recipe(sys.argv[1])
with joined(group, "cpu"):
    lm = load_language_model(recipe.lm, "fp32", shard=layer_sharder(group, "cpu", recipe))
    parts = [getattr(weight, "to_local", lambda: weight)() for weight in lm.parameters()]
    print(sum(part.untyped_storage().nbytes() for part in parts), weights_digest(lm))
"""


@pytest.mark.slow
def test_a_process_has_as_many_bytes_as_planned_and_the_digest_covers_all_shards(
    tmp_path: Path,
) -> None:
    world = make_world(tmp_path)
    ranks = start_ranks([str(world.recipe)], 2, [sys.executable, "-c", HELD])
    printed = [rank.communicate(timeout=120)[0].split() for rank in ranks]
    lm = load_language_model(str(world.root / "lm"), "fp32")
    model = tiny_variant(lm, "full")
    planned = frozen_bytes(model, WeightPlacement("fp32", shards=2))
    assert planned < frozen_bytes(model, WeightPlacement("fp32"))
    assert printed == [[str(planned), weights_digest(lm)]] * 2


@pytest.mark.slow
def test_killed_processes_with_sharded_weights_resume_with_the_losses_of_an_uninterrupted_run(
    tmp_path: Path,
) -> None:
    assert_killed_ranks_resume(make_world(tmp_path, epochs=4), "--shard-weights", epochs=1)


@pytest.mark.slow
def test_a_process_whose_partner_dies_says_so(tmp_path: Path) -> None:
    world = make_world(tmp_path, epochs=30)
    ranks = start_ranks(train_command(world, "--shard-weights"), 2)
    wait_for_epochs(world, ranks, 1)
    ranks[1].send_signal(signal.SIGKILL)
    codes, errors = finish(ranks)
    assert codes == [1, -signal.SIGKILL]
    assert "another process of this run ended" in " ".join(errors[0].split())
    assert "Traceback" not in errors[0]


def test_one_process_cannot_divide_weights(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, train_command(make_world(tmp_path), "--shard-weights"))
    assert isinstance(result.exception, UsageError)
    assert "torchrun --nproc-per-node" in str(result.exception)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lm_precision=int8", "cannot shard int8 weights"),
        ("variant=finetune-lm", "trains them"),
        ("tail=official", "tail 'official'"),
    ],
)
def test_weights_that_cannot_be_divided_are_refused(
    tmp_path: Path, change: str, message: str
) -> None:
    recipe = load_recipe(str(make_world(tmp_path).recipe), parse_changes([change]))
    with pytest.raises(UsageError, match=message):
        layer_sharder(Group(0, 2), "cpu", recipe)


@pytest.mark.parametrize("variant", ["full", "ada", "deep-prompt", "lin"])
def test_an_idle_batch_runs_every_layer_forth_and_back_and_teaches_nothing(variant: str) -> None:
    lm = tiny_opt()
    model = tiny_variant(lm, variant).train()
    calls: list[str] = []
    for layer in lm.model.decoder.layers:
        layer.register_forward_hook(lambda *_: calls.append("forth"))
        layer.fc1.register_full_backward_hook(lambda *_: calls.append("back"))
    model(dummy_batch(2, 8)).values.sum().backward()
    idle, calls[:] = list(calls), []
    taught = {name for name, weight in trainable_parameters(model) if weight.grad is not None}
    assert all(
        not weight.grad.any()
        for _, weight in trainable_parameters(model)
        if weight.grad is not None
    )
    model.zero_grad()
    ids = torch.randint(4, 61, (3, 5))
    batch = Batch(torch.randn(3, 2, 8), ids, torch.ones_like(ids), ids, torch.arange(3))
    model(batch).values.mean().backward()
    assert calls == idle
    assert taught == {
        name for name, weight in trainable_parameters(model) if weight.grad is not None
    }
