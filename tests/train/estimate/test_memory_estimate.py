import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from epalm.errors import ModelError
from epalm.model.build import assemble
from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.language_model import PRECISIONS, load_language_model
from epalm.model.engine.quantized import quantize
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.method.resampler_shape import ResamplerShape
from epalm.train.estimate.memory_estimate import MemoryPlan, plan_memory, shape_model
from epalm.train.estimate.step_memory import StepShape
from epalm.train.estimate.storage_tracking import LiveStorages
from epalm.train.estimate.weight_memory import WeightPlacement
from tests.fakes import save_language_model
from tests.model.helpers import settings
from tests.train.estimate.small_models import CONFIGS, batch_of, measure, small_lm

OPT_66B = {
    "model_type": "opt",
    "vocab_size": 50272,
    "hidden_size": 9216,
    "ffn_dim": 36864,
    "num_hidden_layers": 64,
    "num_attention_heads": 72,
    "word_embed_proj_dim": 9216,
    "max_position_embeddings": 2048,
}
"""The published configuration of facebook/opt-66b."""

SHORT_TEXTS, LONG_TEXTS = StepShape(8, 8, 130, 20), StepShape(4, 4, 270, 80)

CASES: list[tuple[str, StepShape, dict[str, Any]]] = [
    ("full", SHORT_TEXTS, {"precision": "bf16"}),
    ("full", SHORT_TEXTS, {"tail": "drop"}),
    ("full", StepShape(12, 3, 150, 20), {}),
    ("lin", SHORT_TEXTS, {}),
    ("ada", SHORT_TEXTS, {}),
    ("ada", SHORT_TEXTS, {"precision": "bf16"}),
    ("deep-prompt", SHORT_TEXTS, {}),
    ("finetune-lm", SHORT_TEXTS, {}),
]


def small_epalm(family: str, variant: str, changes: dict[str, Any]) -> EPALM:
    """The model around a small language model in its precision, in train mode."""
    precision, lm = changes.get("precision", "fp32"), small_lm(family)
    model = assemble(lm, settings(variant, **changes))
    if precision == "int8":
        quantize(model.parts.layers, precision)
    lm.to(PRECISIONS[precision])
    return model.train()


def shapes_of(family: str, variant: str, changes: dict[str, Any]) -> EPALM:
    """The same model without data, as `shape_model` makes it."""
    with torch.device("meta"):
        return assemble(small_lm(family), settings(variant, **changes))


def check_saved(family: str, variant: str, load: StepShape, changes: dict[str, Any]) -> None:
    """Compare what backward keeps of a step with what is planned, to within 1.5 percent."""
    placing = WeightPlacement(changes.get("precision", "fp32"), cpu=True)
    parts = plan_memory(shapes_of(family, variant, changes), placing, load).parts
    measured = measure(small_epalm(family, variant, changes), load)
    assert parts["saved for backward"] == pytest.approx(measured, rel=0.015)


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize(
    ("load", "precision"), [(SHORT_TEXTS, "fp32"), (LONG_TEXTS, "fp32"), (LONG_TEXTS, "bf16")]
)
def test_what_backward_keeps_is_planned_for_every_family(
    family: str, load: StepShape, precision: str
) -> None:
    check_saved(family, "full", load, {"precision": precision})


@pytest.mark.parametrize(
    "family",
    [
        "opt",
        *(pytest.param(x, marks=pytest.mark.slow) for x in CONFIGS if x != "opt"),
    ],
)
@pytest.mark.parametrize(("variant", "load", "changes"), CASES)
def test_what_backward_keeps_is_planned_for_every_variant(
    family: str, variant: str, load: StepShape, changes: dict[str, Any]
) -> None:
    check_saved(family, variant, load, changes)


@pytest.mark.parametrize("family", ["opt", "llama", "gemma2"])
@pytest.mark.parametrize("variant", ["late", "late-deep", "late-ada"])
@pytest.mark.parametrize("load", [SHORT_TEXTS, LONG_TEXTS])
def test_what_backward_keeps_of_late_variants_is_planned_with_few_more_keys(
    family: str, variant: str, load: StepShape
) -> None:
    """Less is kept in the first injected layer, whose text needs no gradient, and in the last."""
    changes = {"inject": "1:4"}
    placing = WeightPlacement("fp32", cpu=True)
    plan = plan_memory(shapes_of(family, variant, changes), placing, load)
    measured = measure(small_epalm(family, variant, changes), load)
    assert 0.985 * measured <= plan.parts["saved for backward"] <= 1.2 * measured


def test_what_backward_keeps_of_a_resampler_is_planned_with_its_attention_weights() -> None:
    """Fused attention keeps no weights, so that the plan is above what is measured."""
    changes = {"positions": 50, "resampler": ResamplerShape(8, 2)}
    plan = plan_memory(
        shapes_of("opt", "resampler", changes), WeightPlacement("fp32", cpu=True), SHORT_TEXTS
    )
    measured = measure(small_epalm("opt", "resampler", changes), SHORT_TEXTS)
    assert measured <= plan.parts["saved for backward"] <= 1.05 * measured


@pytest.mark.parametrize("family", ["opt", "llama", "gemma2"])
def test_what_backward_keeps_of_quantized_layers_is_planned(family: str) -> None:
    check_saved(family, "full", SHORT_TEXTS, {"precision": "int8"})


@pytest.mark.parametrize("family", ["opt", "opt-post-norm", "gpt_neox", "gpt2"])
@pytest.mark.parametrize("load", [SHORT_TEXTS, LONG_TEXTS])
@pytest.mark.parametrize("precision", ["bf16", pytest.param("fp32", marks=pytest.mark.slow)])
def test_masks_of_dropout_are_planned(family: str, load: StepShape, precision: str) -> None:
    check_saved(family, "full", load, {"lm_dropout": 0.1, "precision": precision})


@pytest.mark.parametrize(("family", "rotated"), [("opt", 0), ("gpt2", 0), ("llama", 24)])
@pytest.mark.parametrize("count", [1, 4])
def test_layers_that_are_recomputed_are_planned_without_their_insides(
    family: str, rotated: int, count: int
) -> None:
    model = small_epalm(family, "full", {})
    checkpoint_last_layers(model.parts.layers, count)
    placing = WeightPlacement("fp32", recomputed=count, cpu=True)
    planned = plan_memory(shapes_of(family, "full", {}), placing, SHORT_TEXTS)
    # arguments of a recomputed layer are kept, too, but not by autograd: here cosines and sines of
    # 3 + 130 tokens before the injection and 8 * 4 + 130 after it
    arguments = (133 + 162) * 2 * rotated * 4 if count == 4 else 0
    measured = measure(model, SHORT_TEXTS) + arguments
    assert planned.parts["saved for backward"] == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("recomputed", [0, 4])
def test_a_step_never_has_more_memory_at_one_time_than_planned(
    family: str, recomputed: int
) -> None:
    model = small_epalm(family, "full", {})
    checkpoint_last_layers(model.parts.layers, recomputed)
    trained = [weight for _, weight in trainable_parameters(model)]
    batch, live = batch_of(LONG_TEXTS), LiveStorages([*model.parameters(), *model.buffers()])
    with live:
        torch.autograd.grad(model(batch).values.sum(), trained)
    placing = WeightPlacement("fp32", recomputed=recomputed, cpu=True)
    parts = plan_memory(shapes_of(family, "full", {}), placing, LONG_TEXTS).parts
    labels = ("saved for backward", "working memory of a layer", "LM head, one chunk")
    gradients = sum(weight.nbytes for weight in trained)
    assert live.peak < sum(parts[label] for label in labels) + gradients < 1.75 * live.peak


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_weights_are_planned_to_the_byte_without_loading_them(
    tmp_path: Path, precision: str
) -> None:
    folder = save_language_model(tmp_path / "lm", [f"word{n}" for n in range(57)], width=64)
    check_weights(folder, precision)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_weights_of_every_family_are_planned_to_the_byte(
    tmp_path: Path, family: str, precision: str
) -> None:
    AutoModelForCausalLM.from_config(CONFIGS[family]).save_pretrained(tmp_path)
    check_weights(tmp_path, precision)


def check_weights(folder: Path, precision: str) -> None:
    lm = load_language_model(str(folder), precision)
    held = [*lm.parameters(), *lm.buffers()]
    (folder / "model.safetensors").unlink()
    model = shape_model(settings("full", lm=str(folder), precision=precision))
    assert all(weight.is_meta for weight in model.parameters())
    plan = plan_memory(model, WeightPlacement(precision), SHORT_TEXTS)
    assert plan.weights == sum(tensor.nbytes for tensor in held)
    trained = sum(weight.numel() for _, weight in trainable_parameters(model))
    assert plan.parts["trainable tensors, gradients, AdamW"] == 16 * trained


@pytest.fixture(scope="module")
def opt_66b(tmp_path_factory: pytest.TempPathFactory) -> EPALM:
    folder = tmp_path_factory.mktemp("opt-66b")
    (folder / "config.json").write_text(json.dumps(OPT_66B))
    return shape_model(settings("full", lm=str(folder), precision="bf16", encoder_width=768))


@pytest.mark.parametrize(
    ("placing", "gigabytes"),
    [
        (WeightPlacement("fp32"), 262.9),
        (WeightPlacement("bf16"), 131.4),
        (WeightPlacement("bf16", shards=8), 17.3),
        (WeightPlacement("int8"), 66.2),
        (WeightPlacement("int4"), 37.6),
    ],
)
def test_opt_66b_is_planned_on_a_laptop(
    opt_66b: EPALM, placing: WeightPlacement, gigabytes: float
) -> None:
    """65,718,000,000 weights, 482,000,000 of them outside the layers; NF4 takes 4.5 bits each."""
    plan = plan_memory(opt_66b, placing, StepShape(64, 64, 960, 22))
    assert plan.weights / 1e9 == pytest.approx(gigabytes, abs=0.2)


def test_sharding_and_recomputing_leave_less_on_a_device(opt_66b: EPALM) -> None:
    load = StepShape(64, 64, 960, 22)
    whole, divided, again = (
        plan_memory(opt_66b, placing, load)
        for placing in (
            WeightPlacement("bf16"),
            WeightPlacement("bf16", shards=8),
            WeightPlacement("bf16", shards=8, recomputed=64),
        )
    )
    assert whole.total > 2 * divided.total > 2 * again.total
    assert whole.parts["saved for backward"] == divided.parts["saved for backward"]
    assert again.parts["saved for backward"] < 0.15 * divided.parts["saved for backward"]


def test_weights_larger_than_the_device_are_refused_with_what_helps() -> None:
    MemoryPlan({"frozen weights, fp32": 10, "rest": 20}, free=10).check_weights()
    with pytest.raises(ModelError, match=r"--precision bf16.*--shard-weights"):
        MemoryPlan({"frozen weights, fp32": 11}, free=10).check_weights()
    assert not MemoryPlan({"frozen weights, fp32": 10}, free=11).fits
    assert MemoryPlan({"frozen weights, fp32": 9}, free=10).fits
