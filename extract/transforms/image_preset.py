"""The settings of the transform of images: those of eP-ALM's code, or an encoder's own."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from epalm.cache.preprocessing_names import NATIVE, RECORDED
from epalm.errors import ModelError, UsageError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Constants per channel for pixels in 0..1; the published code uses them for every encoder."""

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class ImagePreset:
    """How an image becomes the encoder's input; every field changes the features.

    Attributes:
        name: "official" (the paper's) or "native".
        size: side of the square input, pixels.
        resized: side (squash) or shorter side (keep_shape) after resizing, pixels; then the center
            `size` x `size` is cropped.
        keep_shape: whether resizing keeps the aspect ratio.
        interpolation: name of a PIL filter; all except "nearest" antialias when shrinking.
        mean: mean per channel, for pixels in 0..1.
        std: standard deviation per channel, for pixels in 0..1.
    """

    name: str
    size: int
    resized: int
    keep_shape: bool
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def fingerprint(self) -> dict[str, str]:
        """Each field as text, named `preprocessing.<field>`."""
        return {f"preprocessing.{name}": str(value) for name, value in asdict(self).items()}


def official_preset(size: int) -> ImagePreset:
    """Squash to `size` x `size`, bicubic, CLIP's constants: the published test transform."""
    return ImagePreset(
        name="official",
        size=size,
        resized=size,
        keep_shape=False,
        interpolation="bicubic",
        mean=CLIP_MEAN,
        std=CLIP_STD,
    )


def native_preset(config: Mapping[str, Any]) -> ImagePreset:
    """The evaluation transform of a timm data config (`timm.data.resolve_model_data_config`).

    Raises:
        ModelError: a crop mode, filter or input shape that is not supported.
    """
    _, height, width = config["input_size"]
    crop, interpolation = config["crop_mode"], config["interpolation"]
    if height != width or crop not in ("center", "squash") or interpolation not in FILTERS:
        raise ModelError(
            f"native preprocessing is {height}x{width}, {crop}, {interpolation}; supported are "
            f"square inputs, center or squash, {', '.join(FILTERS)}: use --preprocessing paper"
        )
    return ImagePreset(
        name="native",
        size=height,
        resized=math.floor(height / config["crop_pct"]),
        keep_shape=crop == "center",
        interpolation=interpolation,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def preset_for(preprocessing: str, config: Mapping[str, Any]) -> ImagePreset:
    """The paper's or the native preset for an encoder with a timm data config.

    Raises:
        UsageError: a name other than those of `epalm.cache.preprocessing_names`.
        ModelError: `native_preset` refuses the preprocessing of the encoder.
    """
    if preprocessing not in RECORDED:
        known = ", ".join(RECORDED)
        raise UsageError(f"--preprocessing {preprocessing!r} is not one of {known}")
    if preprocessing == NATIVE:
        return native_preset(config)
    return official_preset(config["input_size"][-1])
