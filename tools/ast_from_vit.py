"""Make a small audio encoder of a vision transformer: `python -m tools.ast_from_vit`.

An AST of another width than the published ones has no weights to download. This one begins as the
authors of AST begin theirs (Gong, Chung and Glass, 2021, section 2.2): the blocks of an image
transformer, its patch embedding summed over the colors, its position embeddings stretched over
frequency and time, its [CLS] for both class tokens. It has not heard a sound: what it tells apart
is what images of sounds have in common with photos.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import timm
import torch
import typer
from timm.models import load_state_dict
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from transformers import ASTConfig, ASTModel

from epalm.console import out_console, run_app

MEL_BINS = 128
"""As the published AST."""

app = typer.Typer(add_completion=False)


@app.command()
def command(
    weights: Annotated[Path, typer.Option(help="Of a timm ViT with patches of 16.")],
    out: Annotated[Path, typer.Option(help="Folder for config.json and model.safetensors.")],
    architecture: Annotated[str, typer.Option(help="timm's name of it.")] = "vit_tiny_patch16_224",
    frames: Annotated[int, typer.Option(help="Of 10 ms that the encoder hears.")] = 512,
    stride: Annotated[int, typer.Option(help="Of patches, in bins and in frames.")] = 10,
) -> None:
    """Write the AST, to be used as `epalm-extract --encoder ast --weights OUT`."""
    vit = timm.create_model(architecture, num_classes=0)
    state = load_state_dict(str(weights), weights_only=True)
    vit.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
    assert isinstance(vit, VisionTransformer)
    convert(vit, frames=frames, stride=stride).save_pretrained(out)
    out_console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)


def convert(vit: VisionTransformer, *, frames: int, stride: int) -> ASTModel:
    """The AST that begins as `vit`.

    Args:
        vit: with a class token and patches of 16 pixels.
        frames: of the input.
        stride: of patches.
    """
    weights = vit.state_dict()
    first: Any = vit.blocks[0]
    patch = weights["patch_embed.proj.weight"]
    config = ASTConfig(
        hidden_size=vit.embed_dim,
        num_hidden_layers=len(vit.blocks),
        num_attention_heads=first.attn.num_heads,
        intermediate_size=first.mlp.fc1.out_features,
        layer_norm_eps=first.norm1.eps,
        patch_size=patch.shape[-1],
        frequency_stride=stride,
        time_stride=stride,
        max_length=frames,
        num_mel_bins=MEL_BINS,
    )
    state = {f"encoder.layer.{name}": tensor for name, tensor in _blocks(vit).items()}
    shape = ASTModel(config).embeddings.get_shape(config)
    state |= {
        "embeddings.cls_token": weights["cls_token"],
        "embeddings.distillation_token": weights["cls_token"],
        "embeddings.position_embeddings": _stretched(weights["pos_embed"], shape),
        "embeddings.patch_embeddings.projection.weight": patch.sum(dim=1, keepdim=True),
        "embeddings.patch_embeddings.projection.bias": weights["patch_embed.proj.bias"],
        "layernorm.weight": weights["norm.weight"],
        "layernorm.bias": weights["norm.bias"],
    }
    # Its modules have other names from version to version; those of saved files are always read.
    loaded: Any = ASTModel.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True
    )
    model, report = loaded  # with loading info it is a pair, which its annotation does not say
    if report["missing_keys"] or report["unexpected_keys"]:
        raise RuntimeError(f"this version of transformers has another AST layout: {report}")
    return cast(ASTModel, model)


def _stretched(positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """(1, 1 + patches, D) over a square to (1, 2 + frequency x time, D)."""
    cls, grid = positions[:, :1], positions[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    square = grid.transpose(1, 2).unflatten(2, (side, side))
    wide = torch.nn.functional.interpolate(square, shape, mode="bilinear", align_corners=False)
    return torch.cat([cls, cls, wide.flatten(2).transpose(1, 2)], dim=1)


def _blocks(vit: VisionTransformer) -> dict[str, Tensor]:
    """The blocks' weights under the names that an AST on the hub has."""
    renamed = {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    state: dict[str, Tensor] = {}
    for number, block in enumerate(vit.blocks):
        own = block.state_dict()
        for end in ("weight", "bias"):
            for theirs, ours in renamed.items():
                state[f"{number}.{ours}.{end}"] = own[f"{theirs}.{end}"]
            thirds = own[f"attn.qkv.{end}"].chunk(3)
            for part, third in zip(("query", "key", "value"), thirds, strict=True):
                state[f"{number}.attention.attention.{part}.{end}"] = third
    return state


if __name__ == "__main__":
    run_app(app)
