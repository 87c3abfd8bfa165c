"""The attention function against attention that is written down head by head."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from epalm.errors import ModelError
from epalm.model.engine import packed_attention as module
from epalm.model.engine.packed_attention import (
    SHORT_SEQUENCE,
    AttentionProbe,
    keys_and_values,
    packed_attention,
)
from epalm.model.engine.packing import PackedBatch, build_packed_layout

HEADS, KEY_VALUE_HEADS, WIDTH = 4, 2, 8


def states(count: int, *, queries: int = 3, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Queries of 4 heads, and keys and values of 2 heads for `count` positions."""
    generator = torch.Generator().manual_seed(count)
    query = torch.randn(batch, HEADS, queries, WIDTH, generator=generator)
    key, value = torch.randn(2, batch, KEY_VALUE_HEADS, count, WIDTH, generator=generator)
    return query, key, value


def by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
) -> Tensor:
    """(B, Q, heads, width) attention; heads 0 and 1 read the first key head, 2 and 3 the second."""
    output = torch.empty(len(query), query.shape[2], HEADS, WIDTH)
    for text in range(len(query)):
        for head in range(HEADS):
            scores = scaling * query[text, head] @ key[text, head // 2].T
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            weights = scores.masked_fill(~visible[text], -math.inf).softmax(1)
            output[text, :, head] = weights @ value[text, head // 2]
    return output


@pytest.fixture
def fused_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of keys in calls of PyTorch's fused kernel."""
    lengths: list[int] = []

    def record(query: Tensor, key: Tensor, *rest: Tensor, **options: object) -> Tensor:
        lengths.append(key.shape[2])
        return scaled_dot_product_attention(query, key, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "scaled_dot_product_attention", record)
    return lengths


@pytest.mark.parametrize("scaling", [None, 0.3])
@pytest.mark.parametrize("count", [7, SHORT_SEQUENCE - 1, SHORT_SEQUENCE, SHORT_SEQUENCE + 9])
def test_attention_equals_that_worked_out_per_head_whatever_the_kernel(
    count: int, scaling: float | None, fused_calls: list[int]
) -> None:
    query, key, value = states(count)
    every = torch.ones(2, 3, count, dtype=torch.bool)
    actual, weights = packed_attention(nn.Module(), query, key, value, None, scaling=scaling)
    used = 1 / math.sqrt(WIDTH) if scaling is None else scaling
    torch.testing.assert_close(actual, by_hand(query, key, value, every, scaling=used))
    assert weights is None
    assert fused_calls == ([count] if count >= SHORT_SEQUENCE else [])


@pytest.mark.parametrize("count", [9, SHORT_SEQUENCE + 9])
def test_a_mask_is_about_the_last_positions_and_all_earlier_ones_are_visible(count: int) -> None:
    query, key, value = states(count)
    mask = torch.tensor([[[1, 0, 0], [1, 1, 0], [1, 0, 1]], [[0, 1, 0], [0, 1, 1], [1, 1, 1]]])
    before = torch.ones(2, 3, count - 3, dtype=torch.bool)
    visible = torch.cat([before, mask.bool()], dim=2)
    actual, _ = packed_attention(nn.Module(), query, key, value, mask.bool()[:, None])
    expected = by_hand(query, key, value, visible, scaling=1 / math.sqrt(WIDTH))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("count", [9, SHORT_SEQUENCE + 9])
def test_scores_are_bounded_in_sequences_of_any_length(count: int, fused_calls: list[int]) -> None:
    query, key, value = states(count)
    mask = torch.ones(2, 3, count, dtype=torch.bool)
    mask[0, 1, -2:] = False
    actual, _ = packed_attention(
        nn.Module(), query, key, value, mask[:, None], scaling=2.0, softcap=1.5
    )
    expected = by_hand(query, key, value, mask, scaling=2.0, softcap=1.5)
    torch.testing.assert_close(actual, expected)
    assert fused_calls == []


@pytest.mark.parametrize("count", [9, SHORT_SEQUENCE + 9])
def test_dropout_leaves_out_attention_weights(count: int) -> None:
    query, key, value = states(count)
    torch.manual_seed(0)
    kept, total = 0.0, 0
    for _ in range(40):  # every value is 1, so that an output is the sum of the weights
        output, _ = packed_attention(
            nn.Module(), 0 * query, key, torch.ones_like(value), None, dropout=0.25
        )
        kept, total = kept + float(output.mean()), total + 1
        assert (output[..., 0] - 1).abs().max() > 0.01
    assert kept / total == pytest.approx(1, abs=0.05)


def test_the_keys_and_values_of_each_sequence_are_captured_under_the_layers_number() -> None:
    """Token 0 is the visual one of both texts, which are tokens 1, 2 and token 3."""
    present = torch.tensor([[True, True], [True, False]])
    captured: dict[int, tuple[Tensor, Tensor]] = {}
    layout = build_packed_layout(
        PackedBatch(present, present, torch.tensor([0, 0])),
        image_count=1,
        visual=1,
        prompt=0,
        shared_prompt=False,
        captured=captured,
    )
    layer = nn.Module()
    layer.layer_idx = 5  # type: ignore[assignment]
    query, key, value = states(4, queries=4, batch=1)
    packed_attention(layer, query, key, value, None, layout=layout)
    assert captured.keys() == {5}
    for kept, packed in zip(captured[5], (key, value), strict=True):
        assert kept.shape == (2, KEY_VALUE_HEADS, 3, WIDTH)
        assert torch.equal(kept[0], packed[0][:, [0, 1, 2]])
        assert torch.equal(kept[1, :, :2], packed[0][:, [0, 3]])


def test_a_probe_records_the_inputs_of_attention_and_replaces_its_output() -> None:
    query, key, value = states(3, batch=1)
    probe = AttentionProbe()
    output, _ = packed_attention(
        nn.Module(), query, key, value, None, scaling=0.5, softcap=3.0, dropout=0.1, probe=probe
    )
    assert (probe.query is query, probe.key is key, probe.value is value) == (True,) * 3
    assert (probe.scores.scaling, probe.scores.softcap, probe.dropout) == (0.5, 3.0, 0.1)
    assert torch.equal(output, query.transpose(1, 2))
    attended = torch.randn(1, 3, HEADS, WIDTH)
    probe = AttentionProbe(attended)
    output, _ = packed_attention(nn.Module(), query, key, value, None, probe=probe)
    assert output is attended


def test_a_layer_that_computes_no_attention_is_an_error() -> None:
    with pytest.raises(ModelError, match="has computed no attention"):
        keys_and_values(lambda hidden, **_: hidden, torch.zeros(1, 2, 4), None)
