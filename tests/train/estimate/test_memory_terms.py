"""Every term of the memory plan, worked by hand for one small model.

The model has H = 96, ffn 384, 4 heads, 4 layers and 211 tokens of vocabulary. A step has 8 texts of
at most 20 tokens, 130 together, about 6 images. Layers 1 and 2 are injected; from layer 1 on, each
image has a visual token and its own copy of the 3 prompt tokens.
"""

from typing import Any

import pytest
import torch

from epalm.model.build import assemble
from epalm.model.epalm import EPALM
from epalm.train.estimate.attention_memory import AttentionShape, saved_attention_bytes
from epalm.train.estimate.memory_estimate import plan_memory
from epalm.train.estimate.step_memory import StepMemory, StepShape
from epalm.train.estimate.weight_memory import WeightPlacement
from tests.model.helpers import settings
from tests.train.estimate.small_models import small_lm

STEP = StepShape(samples=8, images=6, text_tokens=130, longest=20)
LONG = StepShape(samples=4, images=4, text_tokens=270, longest=80)
CPU, GPU = WeightPlacement("fp32", cpu=True), WeightPlacement("fp32")
CPU_BF16, GPU_BF16 = WeightPlacement("bf16", cpu=True), WeightPlacement("bf16")

WEIGHTS_OF_LAYER = 4 * 96 * 96 + 2 * 96 * 384
OTHERS_OF_LAYER = 4 * 96 + 384 + 96 + 2 * 2 * 96
LAYER = WEIGHTS_OF_LAYER + OTHERS_OF_LAYER
OUTSIDE = 211 * 96 + 130 * 96 + 2 * 96
"""Parameters: linear maps, biases and norms of a layer; embeddings, positions and final norm."""


def model_of(variant: str, **changes: Any) -> EPALM:  # noqa: ANN401 - any field's value
    with torch.device("meta"):
        return assemble(small_lm("opt"), settings(variant, **changes))


@pytest.mark.parametrize(
    ("variant", "changes", "tokens"),
    [
        ("full", {}, [3 + 130, 6 * 4 + 130, 6 * 4 + 130, 6 * 4 + 130]),
        ("full", {"tail": "drop"}, [3 + 130, 6 * 4 + 130, 6 * 4 + 130, 6 * 3 + 130]),
        ("lin", {}, [130, 6 + 130, 6 + 130, 6 + 130]),
        ("late", {}, [130, 6 * 4 + 130, 6 * 4 + 130, 6 * 4 + 130]),
        ("late-deep", {}, [130, 6 + 3 + 130, 6 + 3 + 130, 6 + 3 + 130]),
    ],
)
def test_tokens_of_a_layer_are_counted(
    variant: str, changes: dict[str, Any], tokens: list[int]
) -> None:
    step = StepMemory(model_of(variant, **changes), STEP, CPU)
    assert [step.tokens(index) for index in range(4)] == tokens


def test_tokens_that_are_keys_only_are_counted() -> None:
    """Layer 3 reads the visual tokens of layer 2; a prompt that is not deep is read by all."""
    counts = {
        variant: [StepMemory(model_of(variant), STEP, CPU).only_keys(index) for index in range(4)]
        for variant in ("full", "late", "late-deep")
    }
    assert counts == {
        "full": [0, 0, 0, 0],
        "late": [0, 6, 0, 6 * 4],
        "late-deep": [0, 6 + 3, 3, 6 + 3],
    }


@pytest.mark.parametrize(
    ("variant", "placing", "step", "dropout", "expected"),
    [
        # norms: inputs and statistics; ReLU; queries, keys, values; scores in fp32, and the mask
        (
            *("full", CPU, STEP, 0.0),
            154 * (2 * 96 * 4 + 4 * 4)
            + 154 * 384 * 4
            + 3 * 8 * 24 * 96 * 4
            + (8 * 24 * 4 * 24 * 4 + 8 * 24 * 24),
        ),
        # the same in bf16, where scores are kept in both precisions; masks of two dropouts
        (
            *("full", CPU_BF16, STEP, 0.1),
            154 * (2 * 96 * 2 + 4 * 4)
            + 154 * 384 * 2
            + 3 * 8 * 24 * 96 * 2
            + (8 * 24 * 4 * 24 * (4 + 2) + 8 * 24 * 24)
            + 2 * 154 * 96 * 2,
        ),
        # fused attention: output, one normalizer per head, additive mask; masks of one byte
        (
            *("full", GPU_BF16, STEP, 0.1),
            154 * (2 * 96 * 2 + 4 * 4)
            + 154 * 384 * 2
            + 3 * 8 * 24 * 96 * 2
            + 8 * 24 * (96 * 2 + 4 * 4)
            + 8 * 24 * 24 * 2
            + 2 * 154 * 96,
        ),
        # long sequences are fused on a CPU, too: 4 * (1 + 3) + 270 tokens, 84 positions
        (
            *("full", CPU_BF16, LONG, 0.1),
            286 * (2 * 96 * 2 + 4 * 4)
            + 286 * 384 * 2
            + 3 * 4 * 84 * 96 * 2
            + 4 * 84 * (96 * 2 + 4 * 4)
            + 4 * 84 * 84 * 2
            + 2 * 286 * 96 * 2,
        ),
        # adapters: inputs and ReLU outputs of both, 12 units each
        (
            *("ada", GPU, STEP, 0.0),
            136 * (2 * 96 * 4 + 4 * 4)
            + 136 * 384 * 4
            + 3 * 8 * 21 * 96 * 4
            + 8 * 21 * (96 * 4 + 4 * 4)
            + 8 * 21 * 21 * 4
            + 2 * 136 * (96 + 12) * 4,
        ),
        # a trained language model saves the inputs of its linear maps
        (
            *("finetune-lm", CPU, STEP, 0.0),
            154 * (2 * 96 * 4 + 4 * 4)
            + 154 * 384 * 4
            + 3 * 8 * 24 * 96 * 4
            + (8 * 24 * 4 * 24 * 4 + 8 * 24 * 24)
            + 3 * 154 * 96 * 4,
        ),
    ],
)
def test_each_term_of_a_layer_is_counted(
    variant: str, placing: WeightPlacement, step: StepShape, dropout: float, expected: int
) -> None:
    model = model_of(variant, lm_dropout=dropout)
    assert StepMemory(model, step, placing).layer(1) == expected


def test_a_layer_saves_nothing_where_nothing_below_it_is_trained() -> None:
    below = {
        name: StepMemory(model_of(name), STEP, CPU).layer(0) for name in ("lin", "full", "ada")
    }
    assert below["lin"] == 0
    assert below["full"] > 0
    # layer 0's own adapters are trained: their inputs and ReLU outputs, then one norm and ReLU
    norm, ffn = 96 * 4 + 2 * 4, 384 * 4
    assert below["ada"] == 130 * (2 * (96 + 12) * 4 + norm + ffn)


@pytest.mark.parametrize(
    ("changes", "positions", "tokens"),
    [({}, 3 + 4 + 2 * 20, 133 + 154), ({"tail": "drop"}, 3 + 3 + 2 * 20, 133 + 148)],
)
def test_features_layouts_and_states_of_the_head_are_counted(
    changes: dict[str, Any], positions: int, tokens: int
) -> None:
    step = StepMemory(model_of("full", **changes), STEP, CPU)
    indices = (8 * positions + tokens) * 8
    # inputs and statistics of the final norm, and the gradient that the losses compute
    head = 130 * (96 * 4 + 2 * 4 + 96 * 4)
    assert step.ends() == 6 * 2 * 8 * 4 + indices + head


def test_the_parts_of_a_plan_are_counted() -> None:
    model = model_of("full")
    placing = WeightPlacement("bf16", shards=3, recomputed=2)
    step = StepMemory(model, STEP, placing)
    parts = plan_memory(model, placing, STEP, resident={"stored features": 7}).parts
    connectors, prompt = 2 * (8 * 96 + 96), 3 * 96 + 2 * (96 * 96 + 96)
    assert dict(parts) == {
        "frozen weights, bf16": -(-4 * LAYER * 2 // 3) + OUTSIDE * 2,
        "trainable tensors, gradients, AdamW": 16 * (connectors + prompt),
        "saved for backward": step.layer(0) + step.layer(1) + 2 * 154 * 96 * 2 + step.ends(),
        "working memory of a layer": step.layer(3) + WORKING + 2 * LAYER * 2,
        # logits in bf16 and float32; output of the norm, and of the product with the gradient;
        # loss, target, sum and target's logit
        "LM head, one chunk": 130 * (211 * (2 + 4) + 2 * 96 * 2 + 20),
        "stored features": 7,
    }


WORKING = 154 * (3 * 384 + 96) * 2 + 2 * 6 * 96 * 2
"""Working memory in bf16: input and output of ReLU and a gradient, a hidden state; and the visual
tokens of both connectors."""


@pytest.mark.parametrize(
    ("precision", "codes"),
    [
        ("int8", WEIGHTS_OF_LAYER + 4 * (4 * 96 + 384 + 96)),
        ("int4", WEIGHTS_OF_LAYER // 64 * (32 + 4)),
    ],
)
def test_quantized_weights_are_counted(precision: str, codes: int) -> None:
    parts = plan_memory(model_of("full"), WeightPlacement(precision), STEP).parts
    expected = 4 * (codes + OTHERS_OF_LAYER * 2) + OUTSIDE * 2
    assert parts[f"frozen weights, {precision}"] == expected
    assert parts["working memory of a layer"] == WORKING + 384 * 96 * 2


def test_logits_are_counted_by_the_chunk_and_whole_if_the_head_is_trained() -> None:
    step = StepShape(samples=8, images=6, text_tokens=1000, longest=200)
    frozen = plan_memory(model_of("full"), CPU, step).parts["LM head, one chunk"]
    assert frozen == 256 * (211 * 4 + 2 * 96 * 4 + 20)
    # logits, their gradient, and one more while it is computed; log-probabilities are saved
    trained = plan_memory(model_of("finetune-lm"), CPU, step).parts["LM head, one chunk"]
    assert trained == pytest.approx(1000 * 2 * 211 * 4, rel=0.1)


@pytest.mark.parametrize(
    ("bounded", "cpu", "length", "itemsize", "per_score"),
    [
        (True, False, 200, 2, 4 + 2 + 2),  # softmax in float32, cast; hyperbolic tangent
        (True, True, 200, 4, 4 + 4),
        (False, True, 20, 2, 4 + 2),
        (False, True, 20, 4, 4),
    ],
)
def test_scores_are_kept_where_no_fused_kernel_can_be_used(
    bounded: bool,  # noqa: FBT001 - a parameter of the test
    cpu: bool,  # noqa: FBT001
    length: int,
    itemsize: int,
    per_score: int,
) -> None:
    shape = AttentionShape(
        sequences=3, length=length, queries=length, heads=8, head_width=32, bounded=bounded
    )
    saved = saved_attention_bytes(shape, itemsize, cpu=cpu, dropout=False)
    states = 3 * 3 * length * 8 * 32 * itemsize
    assert saved == states + 3 * length**2 * (8 * per_score + 1)


def test_a_bound_of_the_scores_costs_memory_that_grows_with_the_square_of_long_texts() -> None:
    """Gemma-2-2B: 8 heads of 256; a fused kernel keeps none of these."""
    plain, bounded = (
        saved_attention_bytes(
            AttentionShape(8, 1024, 1024, 8, 256, bounded=bounded), 2, cpu=False, dropout=False
        )
        for bounded in (False, True)
    )
    assert bounded - plain == 8 * 1024**2 * (8 * 8 + 1 - 2) - 8 * 1024 * 8 * (256 * 2 + 4)
    assert bounded > 3 * plain


def test_the_copy_in_onednn_layout_is_counted_where_it_is_made() -> None:
    copy = 2 * 4 * (4 * WEIGHTS_OF_LAYER + 211 * 96)
    frozen = 4 * (4 * LAYER + OUTSIDE)
    for free, made in ((frozen + 2 * copy, copy), (frozen + 2 * copy - 1, 0)):
        parts = plan_memory(model_of("full"), CPU, STEP, free=free).parts
        assert parts.get("weights in oneDNN layout", 0) == made
    for placing in (GPU, WeightPlacement("fp32", shards=2, cpu=True)):
        parts = plan_memory(model_of("full"), placing, STEP, free=10**9).parts
        assert "weights in oneDNN layout" not in parts
    parts = plan_memory(model_of("finetune-lm"), CPU, STEP, free=10**9).parts
    assert "weights in oneDNN layout" not in parts
    assert parts["frozen weights, fp32"] == 0
