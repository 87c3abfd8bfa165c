"""Tiny random models of timm's families, each with what is known of its architecture."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.models.naflexvit import NaFlexVit
from torch import Tensor, nn

from tests.extract.encoders.tiny_encoders import normalized
from tests.extract.encoders.zoo.reference import Stock, nothing, rows_of

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4}


def create(name: str, *, side: int = 32, **settings: object) -> Any:  # noqa: ANN401 - any class
    """A model with random weights of a size that makes every block matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = timm.create_model(name, pretrained=False, num_classes=0, **settings)
        for key, parameter in model.named_parameters():
            scale = parameter.dim() == 1 and "norm" in key and key.endswith("weight")
            nn.init.normal_(parameter, mean=float(scale), std=0.15)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, side, side)}
    return model.eval()


def run(model: Any) -> Callable[[Tensor], Any]:  # noqa: ANN401
    return lambda pixels: model.forward_features(normalized(pixels))


def plain(
    name: str, *, special: int, class_token: bool, side: int = 32, **settings: object
) -> Stock:
    model = create(name, side=side, **(settings or VIT))
    norm, pooled = model.norm, getattr(model, "fc_norm", None) or nothing
    return Stock(
        model,
        run(model),
        list(model.blocks),
        rows_of(4),
        special=special,
        class_token=class_token,
        norm=norm,
        pooled_norm=pooled,
        attention_pool=attention_pool(model) if getattr(model, "attn_pool", None) else None,
    )


def attention_pool(model: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
    """NaFlexViT pools its patches, PE its class token as well; SigLIP has patches alone."""
    first = model.num_prefix_tokens if isinstance(model, NaFlexVit) else 0
    return lambda tokens: model.fc_norm(model.attn_pool(tokens[:, first:]))


def swin(name: str, **settings: object) -> Stock:
    model = create(name, img_size=32, embed_dim=16, window_size=4, depths=(1, 3), **settings)
    blocks = [block for stage in model.layers for block in stage.blocks]
    return Stock(model, run(model), blocks, nothing, norm=model.norm, kept=(1, 3))


def convnext(name: str) -> Stock:
    model = create(name, side=64, depths=(1, 1, 1, 3), dims=(8, 8, 16, 32))
    blocks = [block for stage in model.stages for block in stage.blocks]
    weight, bias, eps = model.head.norm.weight, model.head.norm.bias, model.head.norm.eps
    return Stock(
        model,
        run(model),
        blocks,
        lambda states: states.permute(0, 2, 3, 1),
        pooled_norm=lambda tokens: nn.functional.layer_norm(tokens, (32,), weight, bias, eps),
        kept=(3, 5),
    )


def hiera() -> Stock:
    """Its tokens are in the order of mask units; the last stage has one token in each."""
    model = create("hiera_tiny_224", side=64, img_size=64, embed_dim=16, stages=(1, 1, 1, 2))
    blocks = list(model.blocks)
    return Stock(model, run(model), blocks, rows_of(2), pooled_norm=model.head.norm, kept=(3, 4))


def pyramid() -> Stock:
    sizes = {"depths": (1, 2), "embed_dims": (8, 16), "num_heads": (1, 2)}
    model = create("pvt_v2_b0", **sizes, sr_ratios=(2, 1), mlp_ratios=(2, 2))
    blocks = [block for stage in model.stages for block in stage.blocks]
    return Stock(model, run(model), blocks, rows_of(4), norm=model.stages[-1].norm, kept=(1, 2))


NAFLEX = {"embed_dim": 32, "depth": 3, "num_heads": 4, "side": 64}

TIMM: dict[str, Callable[[], Stock]] = {
    "ViT": lambda: plain("vit_tiny_patch16_224", special=1, class_token=True),
    "DeiT": lambda: plain("deit_tiny_distilled_patch16_224", special=2, class_token=True),
    "DINOv2": lambda: plain("vit_small_patch14_reg4_dinov2", special=5, class_token=True),
    "DINOv3": lambda: plain("vit_small_patch16_dinov3", special=5, class_token=True),
    "registers": lambda: plain("vit_medium_patch16_reg4_gap_256", special=4, class_token=False),
    "SigLIP": lambda: plain("vit_base_patch16_siglip_224", special=0, class_token=False),
    "SigLIP2": lambda: plain("vit_base_patch16_siglip_224.v2_webli", special=0, class_token=False),
    "AIMv2": lambda: plain("aimv2_large_patch14_224", special=0, class_token=False),
    "PE core": lambda: plain("vit_pe_core_tiny_patch16_384", special=1, class_token=True),
    "PE spatial": lambda: plain("vit_pe_spatial_tiny_patch16_512", special=1, class_token=True),
    "EVA02": lambda: plain("eva02_tiny_patch14_224", special=1, class_token=True),
    "BEiT": lambda: plain("beit_base_patch16_224", special=1, class_token=True),
    "NaFlexViT": lambda: plain(
        "naflexvit_base_patch16_map", special=1, class_token=False, **NAFLEX
    ),
    "NaFlexViT gap": lambda: plain(
        "naflexvit_base_patch16_gap", special=4, class_token=False, **NAFLEX
    ),
    "Swin": lambda: swin("swin_tiny_patch4_window7_224", num_heads=(2, 4)),
    "Swin v2": lambda: swin("swinv2_tiny_window8_256", num_heads=(2, 4)),
    "ConvNeXt": lambda: convnext("convnext_tiny"),
    "ConvNeXt v2": lambda: convnext("convnextv2_tiny"),
    "Hiera": hiera,
    "PVT v2": pyramid,
}
"""Family -> its tiny model."""
