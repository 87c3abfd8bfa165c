"""The memory plan compared with measured tensors, and its figures for large models."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from epalm.errors import ModelError
from epalm.model.build import assemble
from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.language_model import PRECISIONS, freeze, load_language_model
from epalm.model.engine.model_batch import Batch
from epalm.model.engine.quantized import quantize
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.train.estimate.memory_estimate import (
    MemoryPlan,
    StepShape,
    WeightPlacement,
    plan_memory,
    shape_model,
)
from tests.fakes import save_language_model
from tests.model.helpers import settings

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


def small_opt(*, pre_norm: bool = True) -> OPTForCausalLM:
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=211,
        hidden_size=96,
        ffn_dim=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        word_embed_proj_dim=96,
        do_layer_norm_before=pre_norm,
        max_position_embeddings=128,
        dropout=0.0,
    )
    return freeze(OPTForCausalLM(config))


def batch_of(load: StepShape, width: int = 8) -> Batch:
    lengths = torch.full((load.samples,), load.longest)
    for sample in range(load.samples * load.longest - load.text_tokens):
        lengths[1 + sample % (load.samples - 1)] -= 1
    ids = torch.randint(4, 200, (load.samples, load.longest))
    mask = (torch.arange(load.longest) < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100
    pictures = torch.arange(load.samples) % load.images
    return Batch(torch.randn(load.images, 2, width), ids, mask, labels, pictures)


def measure(model: EPALM, load: StepShape) -> int:
    """Bytes that autograd keeps of a step, the model's own tensors left out."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(batch_of(load)).values
    assert losses.requires_grad
    return sum(kept.values())


SHORT_TEXTS, LONG_TEXTS = StepShape(8, 8, 130, 20), StepShape(4, 4, 270, 80)


@pytest.mark.parametrize(
    ("variant", "load", "changes"),
    [
        ("full", SHORT_TEXTS, {}),
        ("full", SHORT_TEXTS, {"precision": "bf16"}),
        ("full", SHORT_TEXTS, {"precision": "int8"}),
        ("full", SHORT_TEXTS, {"lm_dropout": 0.1}),
        ("full", SHORT_TEXTS, {"tail": "drop"}),
        ("full", LONG_TEXTS, {}),
        ("full", LONG_TEXTS, {"precision": "bf16", "lm_dropout": 0.1}),
        ("full", StepShape(12, 3, 150, 20), {}),
        ("lin", SHORT_TEXTS, {}),
        ("ada", SHORT_TEXTS, {"precision": "bf16"}),
        ("deep-prompt", SHORT_TEXTS, {}),
        ("finetune-lm", SHORT_TEXTS, {}),
    ],
)
@pytest.mark.parametrize("norms", ["before", "behind"])
def test_what_backward_keeps_is_planned_within_a_quarter(
    variant: str, load: StepShape, changes: dict[str, Any], norms: str
) -> None:
    lm = small_opt(pre_norm=norms == "before")
    precision = changes.get("precision", "fp32")
    if precision == "int8":
        quantize(lm.model.decoder.layers, precision)
    model = assemble(lm.to(PRECISIONS[precision]), settings(variant, **changes)).train()
    planned = plan_memory(model, WeightPlacement(precision, cpu=True), load).parts[
        "saved for backward"
    ]
    assert 0.75 * planned < measure(model, load) < 1.25 * planned


@pytest.mark.parametrize("count", [1, 4])
def test_layers_that_are_computed_again_are_planned_without_their_insides(count: int) -> None:
    model = assemble(small_opt(), settings("full")).train()
    checkpoint_last_layers(model.language_model.model.decoder.layers, count)
    plan = plan_memory(model, WeightPlacement("fp32", recomputed=count, cpu=True), SHORT_TEXTS)
    planned = plan.parts["saved for backward"]
    assert 0.75 * planned < measure(model, SHORT_TEXTS) < 1.25 * planned


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_weights_are_planned_to_the_byte_without_loading_them(
    tmp_path: Path, precision: str
) -> None:
    folder = save_language_model(tmp_path / "lm", [f"word{n}" for n in range(57)], width=64)
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
