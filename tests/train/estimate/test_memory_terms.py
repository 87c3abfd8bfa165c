"""Every term of the memory plan, worked by hand for one small model.

The model has H = 96, ffn 384, 4 heads, 4 layers and 211 tokens of vocabulary. A step has 8 texts of
at most 20 tokens, 130 together, about 6 images. Layers 1 and 2 are injected; from layer 1 on, each
image has a visual token and its own copy of the 3 prompt tokens.
"""

from typing import Any

import pytest

from epalm.model.build import assemble
from epalm.model.epalm import EPALM
from epalm.train.estimate.memory_estimate import (
    StepShape,
    WeightPlacement,
    ends_bytes,
    layer_bytes,
    plan_memory,
    tokens_in_layer,
)
from tests.model.helpers import settings
from tests.train.estimate.test_memory_estimate import small_opt

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
    return assemble(small_opt(), settings(variant, **changes))


@pytest.mark.parametrize(
    ("variant", "changes", "tokens"),
    [
        ("full", {}, [3 + 130, 6 * 4 + 130, 6 * 4 + 130, 6 * 4 + 130]),
        ("full", {"tail": "drop"}, [3 + 130, 6 * 4 + 130, 6 * 4 + 130, 6 * 3 + 130]),
        ("lin", {}, [130, 6 + 130, 6 + 130, 6 + 130]),
    ],
)
def test_tokens_of_a_layer_are_counted(
    variant: str, changes: dict[str, Any], tokens: list[int]
) -> None:
    model = model_of(variant, **changes)
    assert [tokens_in_layer(model, STEP, index) for index in range(4)] == tokens


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
        # the same in bf16, where scores are kept in both precisions; masks of two dropouts on
        # hidden states and one on scores, which keeps its output too
        (
            *("full", CPU_BF16, STEP, 0.1),
            154 * (2 * 96 * 2 + 4 * 4)
            + 154 * 384 * 2
            + 3 * 8 * 24 * 96 * 2
            + (8 * 24 * 4 * 24 * (4 + 2) + 8 * 24 * 24)
            + 2 * 154 * 96
            + 8 * 24 * 4 * 24 * (1 + 2),
        ),
        # fused attention: output, one normalizer per head, additive mask; no dropout of scores
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
            + 2 * 286 * 96,
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
    assert layer_bytes(model, step, 1, placing) == expected


def test_a_layer_saves_nothing_where_nothing_below_it_is_trained() -> None:
    assert layer_bytes(model_of("lin"), STEP, 0, CPU) == 0
    assert layer_bytes(model_of("full"), STEP, 0, CPU) > 0
    assert layer_bytes(model_of("ada"), STEP, 0, CPU) > 0


@pytest.mark.parametrize(
    ("changes", "positions"), [({}, 3 + 4 + 2 * 20), ({"tail": "drop"}, 3 + 3 + 2 * 20)]
)
def test_features_layouts_and_states_of_the_head_are_counted(
    changes: dict[str, Any], positions: int
) -> None:
    expected = 6 * 2 * 8 * 4 + 2 * 8 * positions * 8 + 3 * 130 * 96 * 4
    assert ends_bytes(model_of("full", **changes), STEP, 4) == expected


def test_the_parts_of_a_plan_are_counted() -> None:
    model = model_of("full")
    placing = WeightPlacement("bf16", shards=3, recomputed=2)
    layers = [layer_bytes(model, STEP, index, placing) for index in range(4)]
    parts = plan_memory(model, placing, STEP, store=7).parts
    connectors, prompt = 2 * (8 * 96 + 96), 3 * 96 + 2 * (96 * 96 + 96)
    assert dict(parts) == {
        "frozen weights, bf16": -(-4 * LAYER * 2 // 3) + OUTSIDE * 2,
        "trainable tensors, gradients, AdamW": 16 * (connectors + prompt),
        "saved for backward": sum(layers[:2]) + 2 * 154 * 96 * 2 + ends_bytes(model, STEP, 2),
        "working memory of a layer": layers[3] + 3 * 154 * 384 * 2 + 2 * LAYER * 2,
        "LM head, one chunk": 130 * 211 * (2 + 4),
        "stored features": 7,
    }


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
    assert parts["working memory of a layer"] == 3 * 154 * 384 * 2 + 384 * 96 * 2


def test_logits_are_counted_by_the_chunk_and_whole_if_the_head_is_trained() -> None:
    step = StepShape(samples=8, images=6, text_tokens=1000, longest=200)
    for variant, rows in (("full", 256), ("finetune-lm", 1000)):
        parts = plan_memory(model_of(variant), CPU, step).parts
        assert parts["LM head, one chunk"] == rows * 211 * (4 + 4)


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
