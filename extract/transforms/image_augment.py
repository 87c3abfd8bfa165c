"""Views of a photo: the published training transform, drawn from (seed, view, key) alone.

View 0 is the test transform (`epalm.extract.transforms.image_transform`). Every other view is a
random crop, a flip and two random operations, as the published code draws them anew in every epoch:
which batch, worker or run makes a view, and how many views there are, changes nothing in it.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from epalm.errors import UsageError

AUGMENTATIONS = ("official", "no-flip")
"""`no-flip` leaves out the flip, which turns left into right under questions that name them."""

CROP_SCALE = (0.5, 1.0)
"""Share of the photo's area that a crop has (published)."""

CROP_RATIO = (3 / 4, 4 / 3)
"""Width over height of a crop, drawn evenly in the logarithm (published: torchvision's default)."""

CROP_ATTEMPTS = 10
"""Draws of a crop before the largest one in the centre is taken (torchvision)."""

FLIP_CHANCE = 0.5
"""Published."""

DRAWN_OPERATIONS = 2
"""Published: so many, drawn with replacement ..."""

OPERATION_CHANCE = 0.5
"""... each of them applied with this chance."""

MAGNITUDE = 7
"""Published, of `MOST_MAGNITUDE`."""

MOST_MAGNITUDE = 10

GREY = (128, 128, 128)
"""What fills the pixels that shearing, shifting and turning uncover (published)."""

ENHANCEMENT = 1.8 * MAGNITUDE / MOST_MAGNITUDE + 0.1
"""Factor of brightness and sharpness, 1.36: 1 changes nothing, 0 is black or blurred."""

SHEAR = 0.3 * MAGNITUDE / MOST_MAGNITUDE
"""Pixels by which a row (column) moves against the one before it, 0.21; the sign is drawn."""

SHIFT_SHARE = 10 * MAGNITUDE / MOST_MAGNITUDE / 224
"""Share of the side by which the picture moves; the sign is drawn.

Published are 7 pixels of 224; other sizes move by the same share of what they show.
"""

TURN_DEGREES = 30 * MAGNITUDE / MOST_MAGNITUDE
"""Angle of a turn, 21 degrees; the sign is drawn."""


@dataclass(frozen=True)
class AugmentedViews:
    """How many views of each photo there are and how all but the first are drawn.

    Attributes:
        count: V; view 0 is the test transform.
        seed: changes every drawn view.
        augmentation: one of `AUGMENTATIONS`.
    """

    count: int = 1
    seed: int = 0
    augmentation: str = "official"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn.

        Raises:
            UsageError: fewer than one view, or an unknown augmentation.
        """
        if self.count < 1:
            raise UsageError(f"--views {self.count}: at least 1, the test view, is needed")
        if self.augmentation not in AUGMENTATIONS:
            known = ", ".join(AUGMENTATIONS)
            raise UsageError(f"--augmentation {self.augmentation!r} is not one of {known}")

    @property
    def flip_chance(self) -> float:
        """How often a view is mirrored left to right."""
        return 0.0 if self.augmentation == "no-flip" else FLIP_CHANCE

    def check(self, view: int) -> None:
        """Refuse a view that was not planned.

        Raises:
            ValueError: it was not.
        """
        if not 0 <= view < self.count:
            raise ValueError(f"view {view} was asked, there are views 0..{self.count - 1}")

    def draw(
        self, frames: Sequence[Image.Image], key: str, *, view: int, size: int
    ) -> list[Image.Image]:
        """One view: of a photo, or of a clip, whose frames share one draw.

        Args:
            frames: mode RGB, all of one size.
            key: of the medium.
            view: 1 to `count` - 1.
            size: side of the square results, pixels.

        Returns:
            `size` x `size` each, mode RGB.
        """
        generator = generator_for(self.seed, key, view)
        box = draw_crop(frames[0].size, generator)
        filtering = Image.Resampling.BICUBIC
        pictures = [frame.crop(box).resize((size, size), filtering) for frame in frames]
        if generator.random() < self.flip_chance:
            pictures = [ImageOps.mirror(picture) for picture in pictures]
        for _ in range(DRAWN_OPERATIONS):
            operation = OPERATIONS[int(generator.integers(len(OPERATIONS)))]
            applied, sign = generator.random() < OPERATION_CHANCE, _sign(generator)
            if applied:
                pictures = [operation(picture, sign) for picture in pictures]
        return pictures

    def fingerprint(self) -> dict[str, str]:
        """All that changes a drawn view, named `views.*`; nothing if there is none."""
        if self.count == 1:
            return {}
        return {
            "views.augmentation": self.augmentation,
            "views.seed": str(self.seed),
            "views.generator": "PCG64 of BLAKE2b-128 of seed, view, key",
            "views.crop_scale": f"{CROP_SCALE[0]:g}-{CROP_SCALE[1]:g}",
            "views.crop_ratio": f"{CROP_RATIO[0]:.4g}-{CROP_RATIO[1]:.4g}",
            "views.flip_chance": f"{self.flip_chance:g}",
            "views.operations": f"{DRAWN_OPERATIONS} of {len(OPERATIONS)}",
            "views.operation_chance": f"{OPERATION_CHANCE:g}",
            "views.magnitude": f"{MAGNITUDE} of {MOST_MAGNITUDE}",
            "views.fill": str(GREY[0]),
        }


ONE_VIEW = AugmentedViews()
"""The test view alone."""


def generator_for(seed: int, key: str, view: int) -> np.random.Generator:
    """The draws of one view: numpy's PCG64, whose bit stream never changes, from a stable hash."""
    named = f"{seed}\0{view}\0{key}".encode(errors="surrogateescape")
    digest = hashlib.blake2b(named, digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def draw_crop(size: tuple[int, int], generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A random box (left, top, right, bottom) in a photo of (width, height), as torchvision's.

    Area and ratio are drawn until a box fits; if none of ten does, because the photo is too long,
    the largest box of a permitted ratio in its centre is taken.
    """
    width, height = size
    low, high = (math.log(ratio) for ratio in CROP_RATIO)
    for _ in range(CROP_ATTEMPTS):
        area = width * height * _between(*CROP_SCALE, generator)
        ratio = math.exp(_between(low, high, generator))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = int(generator.integers(height - down + 1))
            left = int(generator.integers(width - across + 1))
            return left, top, left + across, top + down
    across = min(width, max(1, round(height * CROP_RATIO[1])))
    down = min(height, max(1, round(width / CROP_RATIO[0])))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _between(low: float, high: float, generator: np.random.Generator) -> float:
    return low + (high - low) * generator.random()


def _sign(generator: np.random.Generator) -> int:
    return 1 if generator.random() < 0.5 else -1


def _identity(picture: Image.Image, _sign: int) -> Image.Image:
    return picture


def _autocontrast(picture: Image.Image, _sign: int) -> Image.Image:
    """Stretch every channel to 0..255."""
    return ImageOps.autocontrast(picture)


def _equalize(picture: Image.Image, _sign: int) -> Image.Image:
    """Give every channel a level histogram."""
    return ImageOps.equalize(picture)


def _brightness(picture: Image.Image, _sign: int) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(ENHANCEMENT)


def _sharpness(picture: Image.Image, _sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(picture).enhance(ENHANCEMENT)


def _shear_across(picture: Image.Image, sign: int) -> Image.Image:
    """Row y moves right by sign * SHEAR * y pixels."""
    return _mapped(picture, (1, -sign * SHEAR, 0, 0, 1, 0))


def _shear_down(picture: Image.Image, sign: int) -> Image.Image:
    """Column x moves down by sign * SHEAR * x pixels."""
    return _mapped(picture, (1, 0, 0, -sign * SHEAR, 1, 0))


def _shift_across(picture: Image.Image, sign: int) -> Image.Image:
    return _mapped(picture, (1, 0, -sign * SHIFT_SHARE * picture.width, 0, 1, 0))


def _shift_down(picture: Image.Image, sign: int) -> Image.Image:
    return _mapped(picture, (1, 0, 0, 0, 1, -sign * SHIFT_SHARE * picture.height))


def _turn(picture: Image.Image, sign: int) -> Image.Image:
    """Counter-clockwise for sign 1, about the centre."""
    return picture.rotate(sign * TURN_DEGREES, resample=Image.Resampling.BILINEAR, fillcolor=GREY)


def _mapped(picture: Image.Image, inverse: tuple[float, ...]) -> Image.Image:
    """Take the pixel at (x, y) from (a x + b y + c, d x + e y + f); centres at whole numbers."""
    a, b, c, d, e, f = inverse
    # PIL puts the centres at halves.
    across, down = c + (1 - a - b) / 2, f + (1 - d - e) / 2
    return picture.transform(
        picture.size,
        Image.Transform.AFFINE,
        (a, b, across, d, e, down),
        resample=Image.Resampling.BILINEAR,
        fillcolor=GREY,
    )


OPERATIONS: tuple[Callable[[Image.Image, int], Image.Image], ...] = (
    _identity,
    _autocontrast,
    _equalize,
    _brightness,
    _sharpness,
    _shear_across,
    _shear_down,
    _shift_across,
    _shift_down,
    _turn,
)
"""The ten published ones; the order is part of what a seed means."""
