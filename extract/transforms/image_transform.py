"""Images as encoder inputs: decoding, resizing, cropping, constants of normalization."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from epalm.errors import MediaError, ModelError, UsageError
from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews
from epalm.extract.transforms.last_item_cache import LastItemCache
from epalm.media.image_decode import IMAGE_POLICY, decode_image
from epalm.tasks.types import MediaItem

PREPROCESSING = ("official", "native")
"""`official` is that of the official implementation for every encoder, `native` the encoder's."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Constants per channel for pixels in 0..1; the published code uses them for every encoder."""

MAX_RESIZED_PIXELS = 100_000_000
"""An image of extreme shape is refused if it would have more pixels than this after resizing."""

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class ImagePreset:
    """How an image becomes the encoder's input; every field changes the features.

    Attributes:
        name: "official" or "native".
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
    if height != width or crop not in ("center", "squash") or interpolation not in _FILTERS:
        raise ModelError(
            f"native preprocessing is {height}x{width}, {crop}, {interpolation}; supported are "
            f"square inputs, center or squash, {', '.join(_FILTERS)}: use --preprocessing official"
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
    """The official or native preset for an encoder with a timm data config.

    Raises:
        UsageError: a name other than official or native.
        ModelError: `native_preset` refuses the preprocessing of the encoder.
    """
    if preprocessing not in PREPROCESSING:
        known = ", ".join(PREPROCESSING)
        raise UsageError(f"--preprocessing {preprocessing!r} is not one of {known}")
    if preprocessing == "native":
        return native_preset(config)
    return official_preset(config["input_size"][-1])


@dataclass(frozen=True)
class ImageLoader:
    """Decodes an image and makes one view of it; small enough to send to every worker process.

    The views of an image are requested one after the other. The last image is cached, so that it is
    decoded once for all views.
    """

    preset: ImagePreset
    views: AugmentedViews = ONE_VIEW
    _last: LastItemCache[Image.Image] = field(
        default_factory=LastItemCache, compare=False, repr=False
    )

    def __call__(self, item: MediaItem, view: int) -> NDArray[np.uint8]:
        """(3, size, size) uint8; see `decode` and `transform`."""
        return self.transform(self._last.get(item, self.decode), item, view=view)

    def fingerprint(self) -> dict[str, str]:
        """Every setting of decoding, preprocessing and augmentation, as text."""
        return {
            "decode": IMAGE_POLICY,
            **self.preset.fingerprint(),
            **self.views.fingerprint(),
        }

    def decode(self, item: MediaItem) -> Image.Image:
        """Decode an image: RGB, upright, in its own size.

        Raises:
            MediaError: the image cannot be decoded.
        """
        return decode_image(item.path, item.part)

    def transform(self, image: Image.Image, item: MediaItem, *, view: int) -> NDArray[np.uint8]:
        """Make a view, (3, size, size) uint8; the encoder normalizes it on its device.

        Raises:
            MediaError: the image is too long and thin to resize.
            ValueError: there is no such view.
        """
        self.views.check(view)
        if view == 0:
            return pixels(test_view(image, self.preset, name=item.path.name))
        return pixels(self.views.draw([image], item.key, view=view, size=self.preset.size)[0])


def test_view(image: Image.Image, preset: ImagePreset, *, name: str) -> Image.Image:
    """Resize the whole image and crop its center.

    Raises:
        MediaError: the image, called `name`, is too long and thin to resize.
    """
    shape = _resized_shape(image.size, preset)
    if math.prod(shape) > MAX_RESIZED_PIXELS:
        raise MediaError(f"{name}: {image.width} x {image.height} is too thin")
    resized = image.resize(shape, _FILTERS[preset.interpolation])
    left, top = (round((side - preset.size) / 2) for side in shape)
    return resized.crop((left, top, left + preset.size, top + preset.size))


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an RGB image, (3, height, width) uint8."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _resized_shape(size: tuple[int, int], preset: ImagePreset) -> tuple[int, int]:
    """(width, height) after resizing; the longer side is rounded down, as torchvision does."""
    if not preset.keep_shape:
        return preset.resized, preset.resized
    width, height = size
    if width <= height:
        return preset.resized, int(preset.resized * height / width)
    return int(preset.resized * width / height), preset.resized
