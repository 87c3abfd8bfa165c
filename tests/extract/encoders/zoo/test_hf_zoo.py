"""Every family of transformers: each token policy equals hooks on the library's own model."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Aimv2VisionConfig, Aimv2VisionModel, HieraConfig, HieraModel

from epalm.errors import UsageError
from epalm.extract.encoders.encoder_registry import (
    Encoder,
    EncoderSettings,
    make_encoder,
    normed_tokens,
)
from epalm.extract.encoders.tokens.token_encoder import with_tokens
from epalm.extract.encoders.tokens.token_source import outputs_of
from tests.extract.encoders.tiny_encoders import PICTURES, save, save_media
from tests.extract.encoders.zoo.hf_models import HF
from tests.extract.encoders.zoo.reference import expected


def inputs_of(encoder: Encoder, folder: Path) -> Tensor:
    """Two loaded samples."""
    items = save_media(folder, encoder.modality, 2)
    return torch.stack([torch.as_tensor(encoder.load(item, 0)) for item in items])


@pytest.mark.parametrize("family", HF)
def test_each_policy_equals_hooks_on_the_stock_model(family: str, tmp_path: Path) -> None:
    stock = HF[family].create(tmp_path)
    model = make_encoder(f"hf:{tmp_path}", EncoderSettings(media=HF[family].media))
    outputs = outputs_of(model)[-1]
    assert model.modality == HF[family].media
    assert (outputs.special, outputs.class_token) == (stock.special, stock.class_token)
    inputs = inputs_of(model, tmp_path)
    for policy in stock.policies():
        layers = "" if policy == "map" else ",".join(map(str, stock.kept))
        encoder = with_tokens(model, policy, layers)
        with torch.inference_mode():
            blocks = encoder.blocks(inputs, layers=encoder.layers, positions=encoder.positions)
            found = normed_tokens(blocks, encoder.norm)
        torch.testing.assert_close(
            found,
            expected(stock, policy, inputs),
            rtol=0,
            atol=1e-5,
            msg=lambda text, policy=policy: f"{family}, {policy}: {text}",
        )
    default = with_tokens(model, "auto")
    assert str(default.policy) == ("cls" if stock.class_token else "mean")


def test_the_query_of_a_pooling_head_is_no_class_token(tmp_path: Path) -> None:
    """AIMv2's parameter `head.cls_token` was taken for one, and its top left patch for [CLS]."""
    stock = Aimv2VisionModel(Aimv2VisionConfig(**PICTURES))
    assert "head.cls_token" in dict(stock.named_parameters())
    save(stock, tmp_path)
    model = make_encoder(f"hf:{tmp_path}")
    assert not outputs_of(model)[-1].class_token
    with pytest.raises(UsageError, match="no class token among its tokens: use --tokens mean"):
        with_tokens(model, "cls")


def test_claps_grid_is_that_of_its_own_output(tmp_path: Path) -> None:
    """The library gives its last tokens as (B, D, frequency, time)."""
    stock = HF["CLAP"].create(tmp_path)
    model = make_encoder(f"hf:{tmp_path}")
    inputs = inputs_of(model, tmp_path)
    encoder = with_tokens(model, "pool:32x2")
    with torch.inference_mode():
        own = stock.run(inputs).last_hidden_state
        found = encoder.blocks(inputs, layers=encoder.layers, positions=64)[0]
    torch.testing.assert_close(found, own.permute(0, 3, 2, 1).flatten(1, 2), rtol=0, atol=1e-5)


def test_tokens_that_are_not_listed_by_row_have_no_grid(tmp_path: Path) -> None:
    """Hiera of transformers has its tokens in the order of mask units."""
    sizes = {"embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "masked_unit_size": [4, 4]}
    config = HieraConfig(image_size=[32, 32], num_query_pool=1, **sizes)
    save(HieraModel(config), tmp_path)
    model = make_encoder(f"hf:{tmp_path}")
    with pytest.raises(UsageError, match="form no known grid: use --tokens mean"):
        with_tokens(model, "pool:2x2")
    assert with_tokens(model, "mean").layers == (1, 2)
