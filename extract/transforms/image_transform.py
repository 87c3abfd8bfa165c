"""From a photo's file to the pixels an encoder takes: resize, crop, constants of normalisation."""

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
"""`official`: what the published code does for every encoder; `native`: the encoder's own."""

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Per channel, in units of 0..1; the published code uses CLIP's constants for every encoder."""

MAX_RESIZED_PIXELS = 100_000_000
"""A photo of extreme shape is refused when its resized copy would have more pixels than this."""

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


@dataclass(frozen=True)
class ImagePreset:
    """How a photo becomes the encoder's input; every field changes the vectors.

    Attributes:
        name: "official" or "native".
        size: side of the square input, pixels.
        resized: side (squash) or shorter side (keep_shape) after resizing, pixels; then the centre
            `size` x `size` is cut out.
        keep_shape: whether resizing keeps the aspect ratio.
        interpolation: PIL's filter; all of them antialias when shrinking, except "nearest".
        mean: per channel, for pixels in 0..1.
        std: per channel, likewise.
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
        ModelError: a crop mode, filter or input shape that this program does not have.
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
    """The preset of this name for an encoder with this timm data config.

    Raises:
        UsageError: a name other than official or native.
        ModelError: see `native_preset`.
    """
    if preprocessing not in PREPROCESSING:
        known = ", ".join(PREPROCESSING)
        raise UsageError(f"--preprocessing {preprocessing!r} is not one of {known}")
    if preprocessing == "native":
        return native_preset(config)
    return official_preset(config["input_size"][-1])


@dataclass(frozen=True)
class ImageLoader:
    """Decodes one photo and makes one view of it; small enough to send to every worker process.

    The views of a photo are asked for one after the other, so the last photo is kept: it is decoded
    once for all of them.
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
        """All that decides what becomes of a photo."""
        return {
            "decode": IMAGE_POLICY,
            **self.preset.fingerprint(),
            **self.views.fingerprint(),
        }

    def decode(self, item: MediaItem) -> Image.Image:
        """The photo: RGB, upright, own size.

        Raises:
            MediaError: it cannot be decoded.
        """
        return decode_image(item.path, item.part)

    def transform(self, photo: Image.Image, item: MediaItem, *, view: int) -> NDArray[np.uint8]:
        """(3, size, size) uint8; normalisation follows on the encoder's device.

        Raises:
            MediaError: the photo is too long and thin to resize.
            ValueError: a view that was not planned.
        """
        self.views.check(view)
        if view == 0:
            return pixels(test_view(photo, self.preset, name=item.path.name))
        return pixels(self.views.draw([photo], item.key, view=view, size=self.preset.size)[0])


def test_view(photo: Image.Image, preset: ImagePreset, *, name: str) -> Image.Image:
    """The whole photo resized, then its centre.

    Raises:
        MediaError: the photo, called `name`, is too long and thin to resize.
    """
    shape = _resized_shape(photo.size, preset)
    if math.prod(shape) > MAX_RESIZED_PIXELS:
        raise MediaError(f"{name}: {photo.width} x {photo.height} is too thin")
    resized = photo.resize(shape, _FILTERS[preset.interpolation])
    left, top = (round((side - preset.size) / 2) for side in shape)
    return resized.crop((left, top, left + preset.size, top + preset.size))


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """(3, height, width) uint8 of an RGB picture."""
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _resized_shape(size: tuple[int, int], preset: ImagePreset) -> tuple[int, int]:
    """(width, height) after resizing; the longer side is rounded down, as torchvision does."""
    if not preset.keep_shape:
        return preset.resized, preset.resized
    width, height = size
    if width <= height:
        return preset.resized, int(preset.resized * height / width)
    return int(preset.resized * width / height), preset.resized
