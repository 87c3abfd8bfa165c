"""Generated images: two groups of equal shapes, side by side or one above the other.

Every scene is a pure function of its name (the random seed), so the same name gives the same pixels
on any machine. The two groups of a scene always differ in shape and in color. Their sizes, counts
and sides are drawn independently and uniformly, so that no attribute predicts another.
"""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE_PIXELS = 64
"""Width and height of an image."""

RADIUS_PIXELS = {"small": 4, "large": 8}
"""Word for a size -> half the width of the shape."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (224, 48, 48),
    "green": (48, 176, 64),
    "blue": (56, 88, 232),
    "yellow": (240, 216, 48),
    "purple": (160, 64, 200),
    "white": (248, 248, 248),
}
"""Word for a color -> RGB values; shapes are drawn without anti-aliasing, so pixels are exact."""

SHAPES = ("circle", "square", "triangle", "star")

SIDES = {"horizontal": ("left", "right"), "vertical": ("top", "bottom")}
"""Axis along which the image is divided -> words for its first and its second half."""

MAX_COUNT = 3
"""Largest number of shapes in a group; each has its own slot along its half of the image."""

SLOT_PIXELS = SIDE_PIXELS / MAX_COUNT
SLOT_JITTER_PIXELS = 1
HALF_JITTER_PIXELS = 6
"""Largest shift of a shape's center along its half (within its slot) and across it; neighbors never
touch."""

BACKGROUND_GRAYS = range(16, 81)


@dataclass(frozen=True, slots=True)
class Group:
    """One to three equal shapes in one half of the image.

    Attributes:
        shape: one of `SHAPES`.
        color: a key of `COLORS`.
        size: a key of `RADIUS_PIXELS`.
        side: "left", "right", "top" or "bottom".
        centers: (x, y) of each shape, in pixels.
    """

    shape: str
    color: str
    size: str
    side: str
    centers: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Number of shapes."""
        return len(self.centers)


@dataclass(frozen=True, slots=True)
class Scene:
    """The facts of one image.

    Attributes:
        name: random seed of the scene.
        axis: a key of `SIDES`.
        groups: the left (or top) group, then the right (or bottom) one.
        gray: brightness of the background, 0 to 255.
    """

    name: str
    axis: str
    groups: tuple[Group, Group]
    gray: int

    def other(self, group: Group) -> Group:
        """The group that is not `group`."""
        first, second = self.groups
        return second if group is first else first


def make_scene(name: str) -> Scene:
    """The scene of this name; equal names give equal scenes."""
    rng = random.Random(name)
    axis = rng.choice(tuple(SIDES))
    shapes = rng.sample(SHAPES, 2)
    colors = rng.sample(tuple(COLORS), 2)
    groups = [
        Group(
            shape=shapes[half],
            color=colors[half],
            size=rng.choice(tuple(RADIUS_PIXELS)),
            side=SIDES[axis][half],
            centers=_centers(rng, axis, half),
        )
        for half in (0, 1)
    ]
    return Scene(name, axis, (groups[0], groups[1]), rng.choice(BACKGROUND_GRAYS))


def _centers(rng: random.Random, axis: str, half: int) -> tuple[tuple[int, int], ...]:
    """Centres of one to three shapes, each in its own slot of the given half."""
    slots = sorted(rng.sample(range(MAX_COUNT), rng.randint(1, MAX_COUNT)))
    centers = []
    for slot in slots:
        across = SIDE_PIXELS * (1 + 2 * half) // 4
        across += rng.randint(-HALF_JITTER_PIXELS, HALF_JITTER_PIXELS)
        along = round(SLOT_PIXELS * (slot + 0.5))
        along += rng.randint(-SLOT_JITTER_PIXELS, SLOT_JITTER_PIXELS)
        centers.append((across, along) if axis == "horizontal" else (along, across))
    return tuple(centers)


def draw_scene(scene: Scene) -> Image.Image:
    """The image of a scene: RGB, `SIDE_PIXELS` square, no anti-aliasing."""
    image = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), (scene.gray,) * 3)
    pen = ImageDraw.Draw(image)
    for group in scene.groups:
        radius = RADIUS_PIXELS[group.size]
        for center in group.centers:
            draw_shape(pen, group.shape, Box(*center, radius, radius), COLORS[group.color])
    return image


@dataclass(frozen=True, slots=True)
class Box:
    """Position and size of a shape: its center and half its width and height, in pixels."""

    x: int
    y: int
    half_width: int
    half_height: int


def draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, box: Box, fill: int | tuple[int, int, int]
) -> None:
    """Draw one of `SHAPES`, without anti-aliasing."""
    left, right = box.x - box.half_width, box.x + box.half_width
    top, bottom = box.y - box.half_height, box.y + box.half_height
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "triangle":
        pen.polygon([(box.x, top), (right, bottom), (left, bottom)], fill)
    else:
        pen.polygon(_star(box), fill)


def _star(box: Box, points: int = 5) -> list[tuple[float, float]]:
    """Corners of a star that points up; the inner corners are at 0.42 of the radius."""
    corners = []
    for corner in range(2 * points):
        reach = 1.0 if corner % 2 == 0 else 0.42
        angle = math.pi * corner / points
        corners.append(
            (
                box.x + reach * box.half_width * math.sin(angle),
                box.y - reach * box.half_height * math.cos(angle),
            )
        )
    return corners
