"""Images as encoder inputs: decoding, resizing, cropping."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from epalm.errors import MediaError
from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews
from epalm.extract.transforms.image_preset import FILTERS, ImagePreset
from epalm.extract.transforms.last_item_cache import LastItemCache
from epalm.media.image_decode import IMAGE_POLICY, decode_image
from epalm.tasks.types import MediaItem

MAX_RESIZED_PIXELS = 100_000_000
"""An image of extreme shape is refused if it would have more pixels than this after resizing."""


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
    resized = image.resize(shape, FILTERS[preset.interpolation])
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
