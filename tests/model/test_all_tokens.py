"""Stores that keep all tokens of the encoder's blocks."""

import pytest
import torch
from torch import Tensor

from epalm.model.engine.packed_attention import ATTENTION
from tests.model.helpers import text_logits, tiny_opt, tiny_variant

THREE_OF_TWO = {"cached": 2, "positions": 3}
IDS = torch.tensor([[2, 7, 9], [2, 8, 4]])


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("norm", ["pre-LN", "post-LN"])
def test_all_tokens_of_the_encoder_stand_before_the_text(norm: str, tokens: Tensor) -> None:
    """Stock OPT, given [connected tokens | text] as embeddings, computes the same."""
    lm = tiny_opt(pre_norm=norm == "pre-LN", projected=norm == "post-LN")
    model = tiny_variant(lm, "magma-all-tokens", **THREE_OF_TWO)
    decoder = lm.model.decoder
    connected = model.connectors.maps[0](tokens[:, 3:])
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
        wanted = model.logits(hidden[:, 3:])
    lm.set_attn_implementation(ATTENTION)
    assert torch.allclose(text_logits(model, tokens, IDS), wanted, atol=2e-5)


@pytest.mark.parametrize("name", ["full", "limber"])
def test_of_a_store_with_all_tokens_other_variants_read_cls(name: str, tokens: Tensor) -> None:
    lm = tiny_opt(layers=13)
    wanted = text_logits(tiny_variant(lm, name, cached=2), tokens[:, [0, 3]], IDS)
    found = text_logits(tiny_variant(lm, name, **THREE_OF_TWO), tokens, IDS)
    assert torch.equal(found, wanted)
    one = tiny_variant(lm, name, cached=1, blocks=(1,), positions=3)
    assert one.feature_indices is not None
    assert one.feature_indices.tolist() == [3]
