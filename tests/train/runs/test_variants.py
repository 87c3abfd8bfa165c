"""Variants on the command line: which tensors a run trains and saves."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from epalm.errors import UsageError
from epalm.model.build import build_model
from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.epalm import trainable_parameters
from epalm.train.cli import app
from epalm.train.config.optimizer import make_optimizer, set_rates
from epalm.train.config.recipe import Recipe, load_recipe
from tests.model.helpers import tiny_opt, tiny_variant
from tests.train.helpers import World, logged, make_world, train_command


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def run(world: World, *extra: str) -> Path:
    result = CliRunner().invoke(app, train_command(world, *extra))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return world.root / "runs" / "run"


@pytest.mark.parametrize(
    "variant", ["ada", "l19-31+deep-prompt", "magma", "promptfuse", "finetune-lm", "late-deep"]
)
def test_a_run_of_a_variant_learns_is_kept_and_loads(world: World, variant: str) -> None:
    folder = run(world, "--variant", variant, "--set", "inject=auto")
    loaded = load_run(folder)
    assert loaded.record.model.variant == variant
    kept = load_file(folder / "adapter.safetensors")
    trained = dict(trainable_parameters(loaded.model))
    assert kept.keys() == trained.keys()
    assert loaded.record.trained == sum(weight.numel() for weight in kept.values())
    assert all(torch.equal(kept[name], weight) for name, weight in trained.items())
    losses = [line["loss"] for line in logged(world, "train")]
    assert losses[-1] < losses[0]


def test_a_resumed_run_with_adapters_has_the_same_losses(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped behind the first epoch's validation, and started anew by the same command."""
    run(world, "--variant", "ada", "--name", "whole")
    expected = logged(world, "train", "whole")
    with monkeypatch.context() as patch:
        patch.setattr("epalm.train.trainer.validate_epoch", _interrupt)
        with pytest.raises(InterruptedError):
            run(world, "--variant", "ada")
    run(world, "--variant", "ada")
    assert [line["loss"] for line in logged(world, "train")] == [line["loss"] for line in expected]


def _interrupt(training: object, epoch: int) -> None:
    raise InterruptedError


def test_another_variant_in_the_same_folder_is_refused(world: World) -> None:
    folder = run(world, "--variant", "limber")
    with pytest.raises(UsageError, match="is a run with other settings"):
        run(world, "--variant", "magma")
    assert RunRecord.load(folder).model.variant == "limber"


def own_rates(recipe: Recipe, variant: str) -> dict[float, set[str]]:
    """Learning rate of each group -> the parts trained with it."""
    model = tiny_variant(tiny_opt(), variant)
    names = {id(weight): name.split(".")[0] for name, weight in trainable_parameters(model)}
    groups = make_optimizer(model, recipe).param_groups
    return {group["lr"]: {names[id(weight)] for weight in group["params"]} for group in groups}


def test_adapters_and_prompts_keep_their_own_rates_as_published() -> None:
    recipe = load_recipe("vqa2", [("lr", 0.5), ("prompt_lr", 0.25), ("adapter_lr", 0.125)])
    assert own_rates(recipe, "ada") == {0.5: {"connectors"}, 0.125: {"adapters"}}
    assert own_rates(recipe, "full") == {0.5: {"connectors"}, 0.25: {"prompt"}}
    assert own_rates(recipe, "l19-31+deep-prompt") == {0.5: {"connectors"}, 0.25: {"prompt"}}
    assert own_rates(recipe, "finetune-lm")[1e-7] == {"language_model"}


def test_without_a_rate_of_its_own_every_part_follows_the_schedule() -> None:
    recipe = load_recipe("small", [("lr", 0.5)])
    assert own_rates(recipe, "ada") == {0.5: {"connectors", "adapters"}}
    assert own_rates(recipe, "full") == {0.5: {"connectors", "prompt"}}


def test_rates_of_their_own_follow_the_schedule_if_the_recipe_says_so() -> None:
    for scheduled, expected in ((False, [0.1, 0.25]), (True, [0.1, 0.05])):
        changes = [("lr", 0.5), ("prompt_lr", 0.25), ("scheduled_rates", scheduled)]
        recipe = load_recipe("vqa2", changes)
        optimizer = make_optimizer(tiny_variant(tiny_opt(), "full"), recipe)
        set_rates(optimizer, recipe, 0.1)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def test_a_delayed_prompt_is_trained_from_its_step_on(world: World) -> None:
    """With the delay as long as the run, the prompt stays as it was drawn."""
    common = ("--variant", "late-deep", "--set", "lm_dropout=0.0")
    prompts = {}
    for delay in (0, 1, 10**6):
        run(world, *common, "--name", f"delay{delay}", "--set", f"prompt_delay={delay}")
        folder = world.root / "runs" / f"delay{delay}"
        prompts[delay] = load_file(folder / ADAPTER_FILE)["prompt.embedding"]
        assert [line["loss"] for line in logged(world, "train", folder.name)]
    record = RunRecord.load(folder)
    torch.manual_seed(record.seed)
    drawn = build_model(record.model)[0].prompt
    assert torch.equal(prompts[10**6], drawn.embedding)
    assert not torch.equal(prompts[0], drawn.embedding)
    assert not torch.equal(prompts[1], prompts[0])
