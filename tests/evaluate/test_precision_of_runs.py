"""A run is evaluated in the precision of its training, unless the device does not support it."""

from pathlib import Path

import pytest
import torch

from epalm import precision
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.run_evaluation import evaluate
from epalm.model.checkpoints import adapter_io
from epalm.model.checkpoints.adapter_io import load_run
from tests.evaluate.helpers import TinyRun, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("tiny"), precision="bf16")


def head(folder: Path) -> torch.Tensor:
    """A frozen weight of the loaded run."""
    return load_run(folder).model.language_model.model.decoder.embed_tokens.weight


def test_a_run_in_bf16_is_evaluated_in_bf16_with_a_warning_if_that_is_slow(
    run: TinyRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    actual = evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True)).evaluation
    assert actual.settings["language model"].endswith(", frozen, bf16")
    slow = [line for line in caplog.messages if "slow" in line]
    assert slow == [
        "bf16 is slow here, this CPU has no native bfloat16 products: "
        f"{run.folder} was trained in it and is evaluated in it"
    ]


def test_without_support_for_bf16_the_same_weights_are_used_in_fp32(
    run: TinyRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    as_trained = head(run.folder)
    assert as_trained.dtype == torch.bfloat16
    caplog.clear()
    monkeypatch.setattr(
        adapter_io, "computes_in", lambda name, device: (name, device) == ("fp32", "cpu")
    )
    weight = head(run.folder)
    assert weight.dtype == torch.float32
    assert torch.equal(weight, as_trained.float())
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        f"cpu cannot compute in bf16, in which {run.folder} was trained: "
        "its weights are used in fp32"
    ]
    actual = evaluate(EvalOptions(run=str(run.folder), split="val", quiet=True)).evaluation
    assert actual.settings["language model"].endswith(", frozen, bf16, evaluated in fp32")
