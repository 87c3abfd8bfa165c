"""The small encoders that come with the package.

On the command line of `epalm-extract` they are `--encoder epalm.demo.encoder:micro_vit`,
`epalm.demo.encoder:micro_timesformer` and `epalm.demo.encoder:micro_ast`.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from epalm.demo.worlds.scenes import SIDE_PIXELS
from epalm.errors import MissingFileError, UsageError
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings
from epalm.extract.encoders.hf_encoder import make_hugging_face
from epalm.extract.encoders.timm_vit import vit_encoder
from epalm.extract.encoders.weights.timm_weights import load_weights
from epalm.extract.transforms.image_preset import CLIP_MEAN, CLIP_STD

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the weights; its README.md says how they were trained."""

VIT_WEIGHTS = WEIGHTS / "vit-micro.safetensors"

TIMESFORMER_WEIGHTS = WEIGHTS / "timesformer-micro"
AST_WEIGHTS = WEIGHTS / "ast-micro"

WIDTH = 96
DEPTH = 8
HEADS = 6
PATCH_PIXELS = 16
STEM_CHANNELS = (3, 16, 32, 64)

CONFIG = {
    "architecture": "vit_micro_patch16_64",
    "input_size": (3, SIDE_PIXELS, SIDE_PIXELS),
    "interpolation": "bicubic",
    "crop_pct": 1.0,
    "crop_mode": "center",
    "mean": CLIP_MEAN,
    "std": CLIP_STD,
}
"""timm's data config, with CLIP's mean and standard deviation, so that official and native
preprocessing agree."""


class ConvStem(PatchEmbed):
    """Patch embedding by strided convolutions instead of one linear layer.

    Such a stem lets a transformer train on few images (Xiao et al., 2021, "Early convolutions help
    transformers see better"); the blocks after it are timm's.
    """

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - whatever timm passes
        super().__init__(**settings)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(STEM_CHANNELS):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GELU()]
        stride = PATCH_PIXELS >> (len(STEM_CHANNELS) - 1)
        layers.append(nn.Conv2d(STEM_CHANNELS[-1], settings["embed_dim"], stride, stride=stride))
        self.proj = nn.Sequential(*layers)  # type: ignore[assignment]  # timm declares a Conv2d


def build_vit(classes: int = 0) -> VisionTransformer:
    """A vision transformer with random weights.

    Args:
        classes: number of outputs of the linear head on the final [CLS] token; 0 for no head.
    """
    model = VisionTransformer(
        img_size=SIDE_PIXELS,
        patch_size=PATCH_PIXELS,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=classes,
        global_pool="token",
        embed_layer=ConvStem,
        weight_init="skip" if classes == 0 else "",
    )
    model.pretrained_cfg = CONFIG  # type: ignore[assignment]  # where timm keeps its data config
    return model


def micro_vit(name: str, settings: EncoderSettings) -> Encoder:
    """The image encoder, made as `epalm.extract.encoders.encoder_registry.make_encoder` asks.

    Raises:
        MissingFileError: the weights are missing.
        UsageError: images of another size.
    """
    if settings.image_size not in (None, SIDE_PIXELS):
        raise UsageError(f"{name} takes images of {SIDE_PIXELS} pixels: leave out --image-size")
    path = _require(settings.weights or VIT_WEIGHTS, made_by="vit")
    return vit_encoder(name, load_weights(build_vit(), path, name=name), settings)


def micro_timesformer(name: str, settings: EncoderSettings) -> Encoder:
    """The video encoder, made as `epalm.extract.encoders.encoder_registry.make_encoder` asks.

    Raises:
        MissingFileError: the weights are missing.
    """
    folder = _require(settings.weights or TIMESFORMER_WEIGHTS, made_by="timesformer")
    return make_hugging_face(name, replace(settings, weights=folder))


def micro_ast(name: str, settings: EncoderSettings) -> Encoder:
    """The audio encoder, made as `epalm.extract.encoders.encoder_registry.make_encoder` asks.

    Raises:
        MissingFileError: the weights are missing.
    """
    folder = _require(settings.weights or AST_WEIGHTS, made_by="ast")
    return make_hugging_face(name, replace(settings, weights=folder))


def _require(path: Path, *, made_by: str) -> Path:
    if not path.exists():
        raise MissingFileError(
            f"{path}: no such file; reinstall the package, or train the encoder again with "
            f"`python -m tools.pretraining {made_by}`"
        )
    return path
