"""A small drawn world: two groups of equal shapes side by side or one above the other.

Every scene is a pure function of a name (its seed), so the same name gives the same pixels on any
machine. The two groups of a scene always differ in shape and in colour; their sizes, their counts
and the sides they take are drawn independently and uniformly, so no attribute betrays another.
"""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIDE_PIXELS = 64
"""Width and height of a picture."""

RADIUS_PIXELS = {"small": 4, "large": 8}
"""Half the width of a shape, by the word for its size."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (224, 48, 48),
    "green": (48, 176, 64),
    "blue": (56, 88, 232),
    "yellow": (240, 216, 48),
    "purple": (160, 64, 200),
    "white": (248, 248, 248),
}
"""The word for a colour and its RGB value; without anti-aliasing, so pixels hold it exactly."""

SHAPES = ("circle", "square", "triangle", "star")

SIDES = {"horizontal": ("left", "right"), "vertical": ("top", "bottom")}
"""The words for the first and the second half of a picture, by how it is divided."""

MAX_COUNT = 3
"""Most shapes in one group; each has a slot of its own along the half it lies in."""

SLOT_PIXELS = SIDE_PIXELS / MAX_COUNT
SLOT_JITTER_PIXELS = 1
HALF_JITTER_PIXELS = 6
"""Jitter of a centre along its half (within its slot) and across it; neighbours never touch."""

BACKGROUND_GREYS = range(16, 81)


@dataclass(frozen=True, slots=True)
class Group:
    """One to three equal shapes in one half of the picture.

    Attributes:
        shape: one of `SHAPES`.
        colour: a key of `COLOURS`.
        size: a key of `RADIUS_PIXELS`.
        side: left, right, top or bottom.
        centres: (x, y) of each shape, in pixels.
    """

    shape: str
    colour: str
    size: str
    side: str
    centres: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """How many shapes the group has."""
        return len(self.centres)


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture, as facts.

    Attributes:
        name: what it was made from; the same name gives the same scene.
        axis: a key of `SIDES`.
        groups: the left (or top) group, then the right (or bottom) one.
        grey: brightness of the background, 0 to 255.
    """

    name: str
    axis: str
    groups: tuple[Group, Group]
    grey: int

    def other(self, group: Group) -> Group:
        """The group that is not `group`."""
        first, second = self.groups
        return second if group is first else first


def make_scene(name: str) -> Scene:
    """The scene that belongs to `name`; equal names give equal scenes."""
    rng = random.Random(name)
    axis = rng.choice(tuple(SIDES))
    shapes = rng.sample(SHAPES, 2)
    colours = rng.sample(tuple(COLOURS), 2)
    groups = [
        Group(
            shape=shapes[half],
            colour=colours[half],
            size=rng.choice(tuple(RADIUS_PIXELS)),
            side=SIDES[axis][half],
            centres=_centres(rng, axis, half),
        )
        for half in (0, 1)
    ]
    return Scene(name, axis, (groups[0], groups[1]), rng.choice(BACKGROUND_GREYS))


def _centres(rng: random.Random, axis: str, half: int) -> tuple[tuple[int, int], ...]:
    """Centres of one to three shapes, each in its own slot of the given half."""
    slots = sorted(rng.sample(range(MAX_COUNT), rng.randint(1, MAX_COUNT)))
    centres = []
    for slot in slots:
        across = SIDE_PIXELS * (1 + 2 * half) // 4
        across += rng.randint(-HALF_JITTER_PIXELS, HALF_JITTER_PIXELS)
        along = round(SLOT_PIXELS * (slot + 0.5))
        along += rng.randint(-SLOT_JITTER_PIXELS, SLOT_JITTER_PIXELS)
        centres.append((across, along) if axis == "horizontal" else (along, across))
    return tuple(centres)


def draw_scene(scene: Scene) -> Image.Image:
    """The picture of a scene: RGB, `SIDE_PIXELS` square, no anti-aliasing."""
    picture = Image.new("RGB", (SIDE_PIXELS, SIDE_PIXELS), (scene.grey,) * 3)
    pen = ImageDraw.Draw(picture)
    for group in scene.groups:
        radius = RADIUS_PIXELS[group.size]
        for centre in group.centres:
            draw_shape(pen, group.shape, Place(*centre, radius, radius), COLOURS[group.colour])
    return picture


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shape is drawn: its centre, and half its width and height, in pixels."""

    x: int
    y: int
    half_width: int
    half_height: int


def draw_shape(
    pen: ImageDraw.ImageDraw, shape: str, place: Place, fill: int | tuple[int, int, int]
) -> None:
    """Draw one of `SHAPES`, without anti-aliasing."""
    left, right = place.x - place.half_width, place.x + place.half_width
    top, bottom = place.y - place.half_height, place.y + place.half_height
    if shape == "circle":
        pen.ellipse((left, top, right, bottom), fill=fill)
    elif shape == "square":
        pen.rectangle((left, top, right, bottom), fill=fill)
    elif shape == "triangle":
        pen.polygon([(place.x, top), (right, bottom), (left, bottom)], fill)
    else:
        pen.polygon(_star(place), fill)


def _star(place: Place, points: int = 5) -> list[tuple[float, float]]:
    """Corners of a star that points up; the inner corners lie at 0.42 of the radius."""
    corners = []
    for corner in range(2 * points):
        reach = 1.0 if corner % 2 == 0 else 0.42
        angle = math.pi * corner / points
        corners.append(
            (
                place.x + reach * place.half_width * math.sin(angle),
                place.y - reach * place.half_height * math.cos(angle),
            )
        )
    return corners
