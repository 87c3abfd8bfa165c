"""Every family of timm: each token policy equals a recomputation with hooks on timm's own model."""

from typing import Any

import pytest
import torch

from epalm.errors import UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings, normed_tokens
from epalm.extract.encoders.timm_vit import vit_encoder
from epalm.extract.encoders.tokens.token_encoder import with_tokens
from epalm.extract.encoders.tokens.token_source import outputs_of
from tests.extract.encoders.tiny_encoders import normalized
from tests.extract.encoders.zoo.reference import expected
from tests.extract.encoders.zoo.timm_models import TIMM, hiera, swin


@pytest.mark.parametrize("family", TIMM)
def test_each_policy_equals_hooks_on_the_stock_model(family: str) -> None:
    stock, same = TIMM[family](), TIMM[family]()
    model = vit_encoder(f"timm:{family}", same.model, EncoderSettings())
    outputs = outputs_of(model)
    side = model.load.preset.size  # type: ignore[attr-defined]
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    assert (outputs[-1].special, outputs[-1].class_token) == (stock.special, stock.class_token)
    for policy in stock.policies():
        layers = "" if policy == "map" else ",".join(map(str, stock.kept))
        encoder = with_tokens(model, policy, layers)
        with torch.inference_mode():
            blocks = encoder.blocks(images, layers=encoder.layers, positions=encoder.positions)
            found = normed_tokens(blocks, encoder.norm)
        torch.testing.assert_close(
            found,
            expected(stock, policy, images),
            rtol=0,
            atol=1e-5,
            msg=lambda text, policy=policy: f"{family}, {policy}: {text}",
        )
    default = with_tokens(model, "auto")
    assert str(default.policy) == ("cls" if stock.class_token else "mean")


def test_hieras_tokens_are_in_the_order_of_rows_in_every_stage() -> None:
    """Compare with timm's own ends of stages, which are (B, D, rows, columns)."""
    model = vit_encoder("timm:hiera", hiera().model, EncoderSettings())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    stock: Any = hiera().model
    with torch.inference_mode():
        maps = stock.forward_intermediates(normalized(images), intermediates_only=True)
        blocks = model.blocks(images, positions=1 << 20)
    ends = [blocks[number] for number in stock.stage_ends]
    assert len(maps) == 4
    for tokens, grid in zip(ends, maps, strict=True):
        torch.testing.assert_close(tokens, grid.flatten(2).transpose(1, 2), rtol=0, atol=1e-5)


def test_blocks_of_stages_of_different_widths_are_not_kept_together() -> None:
    stock = swin("swin_tiny_patch4_window7_224", num_heads=(2, 4))
    model = vit_encoder("timm:swin", stock.model, EncoderSettings())
    assert with_tokens(model, "auto").layers == (1, 2, 3)
    assert with_tokens(model, "mean", "0").width == 16
    with pytest.raises(UsageError, match="0-0 of width 16, 1-3 of width 32: keep blocks of one"):
        with_tokens(model, "mean", "all")
