"""Stores with all tokens of the encoder's blocks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from epalm.errors import UsageError
from epalm.model.engine.packed_attention import ATTENTION
from tests.model.helpers import settings, text_logits, tiny_opt, tiny_variant

THREE_OF_TWO: dict[str, Any] = {"cached": 2, "positions": 3}
IDS = torch.tensor([[2, 7, 9], [2, 8, 4]])


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("norm", ["pre-LN", "post-LN"])
def test_all_tokens_of_the_encoder_are_inserted_before_the_text(
    norm: str, features: Tensor
) -> None:
    """Stock OPT computes the same from [connector outputs | text] as embeddings."""
    lm = tiny_opt(pre_norm=norm == "pre-LN", projected=norm == "post-LN")
    model = tiny_variant(lm, "magma-all-tokens", **THREE_OF_TWO)
    decoder = lm.model.decoder
    connected = model.connectors.maps[0](features[:, 3:])
    text = decoder.embed_tokens(IDS)
    if decoder.project_in is not None:
        text = decoder.project_in(text)
    text = text + decoder.embed_positions.weight[2 : 2 + IDS.shape[1]]
    hidden = torch.cat([connected, text], dim=1)
    mask = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool).tril()
    lm.set_attn_implementation("sdpa")
    with torch.no_grad():
        for layer in decoder.layers:
            hidden = layer(hidden, attention_mask=mask[None, None])
        expected = model.logits(hidden[:, 3:])
    lm.set_attn_implementation(ATTENTION)
    assert torch.allclose(text_logits(model, features, IDS), expected, atol=2e-5)


@pytest.mark.parametrize(("name", "indices"), [("full", [0, 1, 2, 3, 4, 5]), ("limber", [3, 4, 5])])
def test_tokens_that_belong_together_are_injected_together(
    name: str, indices: list[int], features: Tensor
) -> None:
    model = tiny_variant(tiny_opt(layers=13), name, **THREE_OF_TWO, injected_tokens=3)
    assert model.feature_indices is not None
    assert model.feature_indices.tolist() == indices
    assert model.visual_tokens == 3
    connect = model.connectors.maps[-1]
    expected = connect(features[:, 3:]).flatten(0, 1)  # of the last block, image by image
    assert torch.allclose(model._visual_states(features)[-1], expected)


def test_more_tokens_than_a_block_has_are_refused() -> None:
    with pytest.raises(UsageError, match="injected_tokens is 4, expected at most 3"):
        settings("full", **THREE_OF_TWO, injected_tokens=4)


@pytest.mark.parametrize("name", ["full", "limber"])
def test_other_variants_use_only_cls_from_a_store_with_all_tokens(
    name: str, features: Tensor
) -> None:
    lm = tiny_opt(layers=13)
    expected = text_logits(tiny_variant(lm, name, cached=2), features[:, [0, 3]], IDS)
    logits = text_logits(tiny_variant(lm, name, **THREE_OF_TWO), features, IDS)
    assert torch.equal(logits, expected)
    single_block = tiny_variant(lm, name, cached=1, blocks=(1,), positions=3)
    assert single_block.feature_indices is not None
    assert single_block.feature_indices.tolist() == [3]
