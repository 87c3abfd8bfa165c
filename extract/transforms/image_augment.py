"""Augmented views of an image: the published training transform, seeded by (seed, view, key).

View 0 is the test transform (`epalm.extract.transforms.image_transform`). Every other view is a
random crop, a flip and two random operations; the published code draws them anew in every epoch.
A view does not depend on the batch, the worker, the run or the number of views.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from epalm.errors import UsageError

AUGMENTATIONS = ("official", "no-flip")
"""`no-flip` leaves out the flip, which makes answers about left and right wrong."""

CROP_SCALE = (0.5, 1.0)
"""Area of a crop as a fraction of the image (published)."""

CROP_RATIO = (3 / 4, 4 / 3)
"""Aspect ratio of a crop, uniform in the logarithm (published: torchvision's default)."""

CROP_ATTEMPTS = 10
"""Attempts to draw a crop before the largest center crop is taken (torchvision)."""

FLIP_PROBABILITY = 0.5
"""Probability of a horizontal flip (published)."""

DRAWN_OPERATIONS = 2
"""Number of operations per view, drawn with replacement (published)."""

OPERATION_PROBABILITY = 0.5
"""Probability that a drawn operation is applied (published)."""

MAGNITUDE = 7
"""Magnitude of the operations, from 0 to `MAX_MAGNITUDE` (published)."""

MAX_MAGNITUDE = 10

GRAY = (128, 128, 128)
"""Color of the pixels that shearing, shifting and rotating uncover (published)."""

ENHANCEMENT = 1.8 * MAGNITUDE / MAX_MAGNITUDE + 0.1
"""Factor of brightness and sharpness, 1.36: 1 is the identity, 0 is black or blurred."""

SHEAR = 0.3 * MAGNITUDE / MAX_MAGNITUDE
"""Offset of a row (column) from the previous one, 0.21 pixels; the sign is drawn."""

SHIFT_FRACTION = 10 * MAGNITUDE / MAX_MAGNITUDE / 224
"""Shift as a fraction of the side; the sign is drawn.

The published shift is 7 of 224 pixels; images of other sizes are shifted by the same fraction.
"""

ROTATION_DEGREES = 30 * MAGNITUDE / MAX_MAGNITUDE
"""Angle of a rotation, 21 degrees; the sign is drawn."""


@dataclass(frozen=True)
class AugmentedViews:
    """The number of views per sample and the augmentation of all but the first.

    Attributes:
        count: number of views, V; view 0 is the test transform.
        seed: random seed of the augmented views.
        augmentation: one of `AUGMENTATIONS`.
    """

    count: int = 1
    seed: int = 0
    augmentation: str = "official"

    def __post_init__(self) -> None:
        """Check the number of views and the augmentation.

        Raises:
            UsageError: fewer than one view, or an unknown augmentation.
        """
        if self.count < 1:
            raise UsageError(f"--views {self.count}: at least 1, the test view, is needed")
        if self.augmentation not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            raise UsageError(f"--augmentation {self.augmentation!r} is not one of {known}")

    @property
    def flip_probability(self) -> float:
        """Probability that a view is flipped horizontally."""
        return 0.0 if self.augmentation == "no-flip" else FLIP_PROBABILITY

    def check(self, view: int) -> None:
        """Check the number of a view.

        Raises:
            ValueError: there is no such view.
        """
        if not 0 <= view < self.count:
            raise ValueError(f"there is no view {view}, only views 0..{self.count - 1}")

    def draw(
        self, frames: Sequence[Image.Image], key: str, *, view: int, size: int
    ) -> list[Image.Image]:
        """Make an augmented view of an image or a video; frames of a video share the same draws.

        Args:
            frames: RGB images of the same size.
            key: key of the sample.
            view: number of the view, 1 to `count` - 1.
            size: side of the square results, pixels.

        Returns:
            One RGB image of `size` x `size` per frame.
        """
        generator = generator_for(self.seed, key, view)
        box = draw_crop(frames[0].size, generator)
        resampling = Image.Resampling.BICUBIC
        images = [frame.crop(box).resize((size, size), resampling) for frame in frames]
        if generator.random() < self.flip_probability:
            images = [ImageOps.mirror(image) for image in images]
        for _ in range(DRAWN_OPERATIONS):
            operation = OPERATIONS[int(generator.integers(len(OPERATIONS)))]
            applied, sign = generator.random() < OPERATION_PROBABILITY, _sign(generator)
            if applied:
                images = [operation(image, sign) for image in images]
        return images

    def fingerprint(self) -> dict[str, str]:
        """Every setting of the augmented views, named `views.*`; {} if there are none."""
        if self.count == 1:
            return {}
        return {
            "views.augmentation": self.augmentation,
            "views.seed": str(self.seed),
            "views.generator": "PCG64 of BLAKE2b-128 of seed, view, key",
            "views.crop_scale": f"{CROP_SCALE[0]:g}-{CROP_SCALE[1]:g}",
            "views.crop_ratio": f"{CROP_RATIO[0]:.4g}-{CROP_RATIO[1]:.4g}",
            "views.flip_chance": f"{self.flip_probability:g}",
            "views.operations": f"{DRAWN_OPERATIONS} of {len(OPERATIONS)}",
            "views.operation_chance": f"{OPERATION_PROBABILITY:g}",
            "views.magnitude": f"{MAGNITUDE} of {MAX_MAGNITUDE}",
            "views.fill": str(GRAY[0]),
        }


ONE_VIEW = AugmentedViews()
"""The test view only."""


def generator_for(seed: int, key: str, view: int) -> np.random.Generator:
    """The random generator of a view: numpy's PCG64, which never changes, with a hash as seed."""
    text = f"{seed}\0{view}\0{key}".encode(errors="surrogateescape")
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def draw_crop(size: tuple[int, int], generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw a box (left, top, right, bottom) in an image of (width, height), as torchvision does.

    Area and ratio are drawn until a box fits. If none of ten fits, because the image is too long,
    the largest center box of an allowed ratio is taken.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in CROP_RATIO)
    for _ in range(CROP_ATTEMPTS):
        area = width * height * _uniform(*CROP_SCALE, generator)
        ratio = math.exp(_uniform(low, high, generator))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(generator.integers(height - crop_height + 1))
            left = int(generator.integers(width - crop_width + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, max(1, round(height * CROP_RATIO[1])))
    crop_height = min(height, max(1, round(width / CROP_RATIO[0])))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _uniform(low: float, high: float, generator: np.random.Generator) -> float:
    return low + (high - low) * generator.random()


def _sign(generator: np.random.Generator) -> int:
    return 1 if generator.random() < 0.5 else -1


def _identity(image: Image.Image, _sign: int) -> Image.Image:
    return image


def _autocontrast(image: Image.Image, _sign: int) -> Image.Image:
    """Stretch every channel to 0..255."""
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, _sign: int) -> Image.Image:
    """Equalize the histogram of every channel."""
    return ImageOps.equalize(image)


def _brightness(image: Image.Image, _sign: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(ENHANCEMENT)


def _sharpness(image: Image.Image, _sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(ENHANCEMENT)


def _shear_horizontally(image: Image.Image, sign: int) -> Image.Image:
    """Row y moves right by sign * SHEAR * y pixels."""
    return _affine(image, (1, -sign * SHEAR, 0, 0, 1, 0))


def _shear_vertically(image: Image.Image, sign: int) -> Image.Image:
    """Column x moves down by sign * SHEAR * x pixels."""
    return _affine(image, (1, 0, 0, -sign * SHEAR, 1, 0))


def _shift_horizontally(image: Image.Image, sign: int) -> Image.Image:
    return _affine(image, (1, 0, -sign * SHIFT_FRACTION * image.width, 0, 1, 0))


def _shift_vertically(image: Image.Image, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, -sign * SHIFT_FRACTION * image.height))


def _rotate(image: Image.Image, sign: int) -> Image.Image:
    """Rotate about the center, counter-clockwise for sign 1."""
    return image.rotate(sign * ROTATION_DEGREES, resample=Image.Resampling.BILINEAR, fillcolor=GRAY)


def _affine(image: Image.Image, inverse: tuple[float, ...]) -> Image.Image:
    """Take the pixel at (x, y) from (a x + b y + c, d x + e y + f); centers are whole numbers."""
    a, b, c, d, e, f = inverse
    # In PIL, the centers of pixels are at halves.
    x, y = c + (1 - a - b) / 2, f + (1 - d - e) / 2
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        (a, b, x, d, e, y),
        resample=Image.Resampling.BILINEAR,
        fillcolor=GRAY,
    )


OPERATIONS: tuple[Callable[[Image.Image, int], Image.Image], ...] = (
    _identity,
    _autocontrast,
    _equalize,
    _brightness,
    _sharpness,
    _shear_horizontally,
    _shear_vertically,
    _shift_horizontally,
    _shift_vertically,
    _rotate,
)
"""The ten published operations; the results of a seed depend on their order."""
