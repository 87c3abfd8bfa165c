"""Convert a vision transformer to a small audio encoder: `python -m tools.ast_from_vit`.

There are no weights to download for an AST of another width than the published ones. This one is
initialized as the authors of AST initialize theirs (Gong, Chung and Glass, 2021, section 2.2). It
has the blocks of an image transformer, its patch embedding summed over the colors, its position
embeddings interpolated to frequency and time, and its [CLS] token for both class tokens. It has not
been trained on audio; it can only use what spectrograms have in common with images.
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
"""Number of mel bins of the published AST."""

app = typer.Typer(add_completion=False)


@app.command()
def command(
    weights: Annotated[Path, typer.Option(help="Weights of a timm ViT with patch size 16.")],
    out: Annotated[Path, typer.Option(help="Output folder of config.json and model.safetensors.")],
    architecture: Annotated[
        str, typer.Option(help="timm's name of the architecture.")
    ] = "vit_tiny_patch16_224",
    frames: Annotated[int, typer.Option(help="Input length in frames of 10 ms.")] = 512,
    stride: Annotated[int, typer.Option(help="Stride of patches in bins and in frames.")] = 10,
) -> None:
    """Write an AST for `epalm-extract --encoder ast --weights OUT`."""
    vit = timm.create_model(architecture, num_classes=0)
    state = load_state_dict(str(weights), weights_only=True)
    vit.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
    assert isinstance(vit, VisionTransformer)
    convert(vit, frames=frames, stride=stride).save_pretrained(out)
    out_console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)


def convert(vit: VisionTransformer, *, frames: int, stride: int) -> ASTModel:
    """An AST initialized from `vit`.

    Args:
        vit: vision transformer with a class token and patches of 16 pixels.
        frames: length of the input in frames.
        stride: stride of patches in bins and in frames.
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
    # Module names depend on the version of transformers; those of saved files always load.
    loaded: Any = ASTModel.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True
    )
    model, report = loaded  # a pair, although annotated as a model
    if report["missing_keys"] or report["unexpected_keys"]:
        raise RuntimeError(f"this version of transformers has another AST layout: {report}")
    return cast(ASTModel, model)


def _stretched(positions: Tensor, shape: tuple[int, int]) -> Tensor:
    """(1, 1 + patches, D) of a square image -> (1, 2 + frequency x time, D)."""
    cls, grid = positions[:, :1], positions[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    square = grid.transpose(1, 2).unflatten(2, (side, side))
    wide = torch.nn.functional.interpolate(square, shape, mode="bilinear", align_corners=False)
    return torch.cat([cls, cls, wide.flatten(2).transpose(1, 2)], dim=1)


def _blocks(vit: VisionTransformer) -> dict[str, Tensor]:
    """Weights of the blocks, with the names of an AST on the hub."""
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
