"""Options for large models, tried on a small one from the command line."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from epalm.model.checkpoints.adapter_io import load_run
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.engine.quantized import QuantizedLinear
from epalm.train.cli import app
from tests.train.helpers import World, logged, make_world, train_command


def train(world: World, name: str, *extra: str) -> Path:
    result = CliRunner().invoke(app, train_command(world, "--name", name, *extra))
    assert result.exit_code == 0, result.exception
    return world.root / "runs" / name


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_run_around_quantized_weights_learns_and_loads_again(
    tmp_path: Path, precision: str
) -> None:
    if precision == "int4":
        pytest.importorskip("bitsandbytes")
    world = make_world(tmp_path, epochs=4)
    plain = RunRecord.load(train(world, "plain"))
    folder = train(world, "quantized", "--precision", precision)
    losses = [line["loss"] for line in logged(world, "train", "quantized")]
    assert losses[-1] < 0.8 * losses[0]
    record = RunRecord.load(folder)
    assert (record.frozen, record.trained) == (plain.frozen, plain.trained)
    assert record.lm_digest != plain.lm_digest
    trained = load_file(folder / "adapter.safetensors")
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    loaded = load_run(folder)
    maps = [m for m in loaded.model.language_model.modules() if isinstance(m, QuantizedLinear)]
    assert len(maps) == 6 * 3
    for name, weight in loaded.model.named_parameters():
        assert name not in trained or torch.equal(weight, trained[name])


@pytest.mark.slow
def test_layers_that_are_computed_again_change_no_logged_loss(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    train(world, "keeping")
    train(world, "again", "--set", "recompute_layers=3")
    for kind in ("train", "val"):
        assert logged(world, kind, "again") == logged(world, kind, "keeping")


def test_a_negative_number_of_layers_is_refused(tmp_path: Path) -> None:
    arguments = train_command(make_world(tmp_path), "--set", "recompute_layers=-1")
    assert "expected 0 or more" in str(CliRunner().invoke(app, arguments).exception)
