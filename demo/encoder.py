"""The micro encoders that come with the package, for extraction.

Their doors are `--encoder epalm.demo.encoder:micro_vit`, `:micro_timesformer` and
`:micro_ast`.
"""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from timm.layers.patch_embed import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from epalm.demo.worlds.scenes import SIDE_PIXELS
from epalm.errors import MissingFileError
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings
from epalm.extract.encoders.hf_encoder import make_hugging_face
from epalm.extract.encoders.timm_vit import load_weights, vit_encoder
from epalm.extract.transforms.image_transform import CLIP_MEAN, CLIP_STD

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the shipped weights; see its README.md."""

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
"""timm's data config. The constants are CLIP's, so official and native preprocessing agree."""


class ConvStem(PatchEmbed):
    """Patches through small strided convolutions instead of one linear map.

    Such a stem lets a transformer learn from few pictures (Xiao et al., 2021, "Early convolutions
    help transformers see better"); the blocks behind it are timm's own.
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
    """The architecture with random weights.

    Args:
        classes: outputs of the linear head on the final [CLS]; 0 for no head.
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
    """The encoder of pictures; see `epalm.extract.encoders.encoder_registry.make_encoder`.

    Raises:
        MissingFileError: the weights are not there.
    """
    path = _present(settings.weights or VIT_WEIGHTS, made_by="vit")
    return vit_encoder(name, load_weights(build_vit(), path, name=name), settings)


def micro_timesformer(name: str, settings: EncoderSettings) -> Encoder:
    """The encoder of clips; see `epalm.extract.encoders.encoder_registry.make_encoder`.

    Raises:
        MissingFileError: the weights are not there.
    """
    folder = _present(settings.weights or TIMESFORMER_WEIGHTS, made_by="timesformer")
    return make_hugging_face(name, replace(settings, weights=folder))


def micro_ast(name: str, settings: EncoderSettings) -> Encoder:
    """The encoder of recordings; see `epalm.extract.encoders.encoder_registry.make_encoder`.

    Raises:
        MissingFileError: the weights are not there.
    """
    folder = _present(settings.weights or AST_WEIGHTS, made_by="ast")
    return make_hugging_face(name, replace(settings, weights=folder))


def _present(path: Path, *, made_by: str) -> Path:
    if not path.exists():
        raise MissingFileError(
            f"{path}: no such file; install the package again, or make it with "
            f"`python -m tools.pretraining {made_by}`"
        )
    return path
