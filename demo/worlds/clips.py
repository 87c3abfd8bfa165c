"""Generated videos: one shape crosses the image, another one stays, grows or shrinks, and blinks.

Every clip is a pure function of its name, as every scene is. The direction and distance of the
first shape and the changes of the second are drawn independently and uniformly. A single frame
shows both shapes, but not which one moves, where to and how fast, whether the other one grows, or
how often it blinks.
"""

import random
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from epalm.demo.worlds.scenes import (
    BACKGROUND_GRAYS,
    COLORS,
    SHAPES,
    SIDE_PIXELS,
    Box,
    draw_shape,
)

Color = tuple[int, int, int]

FRAMES = 16
"""Number of frames of a clip."""

SLOT_FRAMES = 2
SLOTS = FRAMES // SLOT_FRAMES
"""The blinking shape is hidden for whole slots of two frames, so that an encoder that samples every
other frame sees every blink once."""

FRAME_MS = 100
"""Duration of a frame in milliseconds."""

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Word for a direction -> unit vector (x, y)."""

TRAVEL_PIXELS = {"slow": (15, 18), "fast": (30, 36)}
"""Word for a speed -> minimum and maximum distance from the first frame to the last. It is at least
one pixel per frame, since PIL drops GIF frames that equal the previous one."""

MOVER_RADIUS_PIXELS = (6, 8)

RADII_PIXELS = {"grow": (4, 10), "shrink": (10, 4)}
"""Change of the shape that stays -> its radius in the first and in the last frame."""

MAX_BLINKS = 3


@dataclass(frozen=True, slots=True)
class Mover:
    """The shape that crosses the image.

    Attributes:
        shape: one of `SHAPES`.
        color: word for the color.
        rgb: RGB values of the color.
        start: position and size in the first frame.
        direction: a key of `DIRECTIONS`.
        travel: distance in pixels from the first frame to the last.
    """

    shape: str
    color: str
    rgb: Color
    start: Box
    direction: str
    travel: int

    def at(self, frame: int) -> Box:
        """Position and size in a frame."""
        distance = round(self.travel * frame / (FRAMES - 1))
        across, down = DIRECTIONS[self.direction]
        return replace(
            self.start, x=self.start.x + across * distance, y=self.start.y + down * distance
        )


@dataclass(frozen=True, slots=True)
class Stayer:
    """The shape that stays in place.

    Attributes:
        shape: one of `SHAPES`.
        color: word for the color.
        rgb: RGB values of the color.
        center: (x, y) in pixels.
        trend: a key of `RADII_PIXELS`.
        hidden: slots in which the shape is not drawn; no two of them are adjacent.
    """

    shape: str
    color: str
    rgb: Color
    center: tuple[int, int]
    trend: str
    hidden: tuple[int, ...]

    def at(self, frame: int) -> Box | None:
        """Position and size in a frame; None if hidden."""
        if frame // SLOT_FRAMES in self.hidden:
            return None
        first, last = RADII_PIXELS[self.trend]
        radius = round(first + (last - first) * frame / (FRAMES - 1))
        return Box(*self.center, radius, radius)


@dataclass(frozen=True, slots=True)
class Clip:
    """The facts of one clip.

    Attributes:
        name: random seed of the clip.
        mover: the shape that crosses the image.
        stayer: the other shape; None only in pretraining.
        ground: RGB values of the background.
    """

    name: str
    mover: Mover
    stayer: Stayer | None
    ground: Color

    @property
    def speed(self) -> str:
        """`slow` or `fast`."""
        slowest_fast = TRAVEL_PIXELS["fast"][0]
        return "fast" if self.mover.travel >= slowest_fast else "slow"


@dataclass(frozen=True, slots=True)
class Looks:
    """Colors of a clip.

    Attributes:
        words: words for the colors of the mover and the stayer.
        colors: RGB values of the mover and the stayer.
        ground: RGB values of the background.
    """

    words: tuple[str, str]
    colors: tuple[Color, Color]
    ground: Color


def make_clip(name: str) -> Clip:
    """The demo's clip of this name; equal names give equal clips."""
    rng = random.Random(name)
    first, second = rng.sample(tuple(COLORS), 2)
    gray = rng.choice(BACKGROUND_GRAYS)
    looks = Looks((first, second), (COLORS[first], COLORS[second]), (gray, gray, gray))
    return make_pair(name, rng, looks)


def make_pair(name: str, rng: random.Random, looks: Looks) -> Clip:
    """A clip with both shapes: the mover stays in one half of the image, the stayer in the other.

    Args:
        name: name of the clip.
        rng: source of everything random except the colors.
        looks: the colors.
    """
    shapes = rng.sample(SHAPES, 2)
    direction = rng.choice(tuple(DIRECTIONS))
    travel = rng.randint(*TRAVEL_PIXELS[rng.choice(tuple(TRAVEL_PIXELS))])
    radius = rng.randint(*MOVER_RADIUS_PIXELS)
    margin = radius + 1
    low = rng.randint(margin, SIDE_PIXELS - 1 - margin - travel)
    forward = sum(DIRECTIONS[direction]) > 0
    along = low if forward else low + travel
    halves = rng.sample((SIDE_PIXELS // 4, 3 * SIDE_PIXELS // 4), 2)
    lane, row = halves[0] + rng.randint(-4, 4), halves[1] + rng.randint(-3, 3)
    column = rng.randint(14, SIDE_PIXELS - 15)
    sideways = DIRECTIONS[direction][0] != 0
    start = (along, lane) if sideways else (lane, along)
    mover = Mover(
        shapes[0],
        looks.words[0],
        looks.colors[0],
        Box(*start, radius, radius),
        direction,
        travel,
    )
    stayer = Stayer(
        shapes[1],
        looks.words[1],
        looks.colors[1],
        (column, row) if sideways else (row, column),
        rng.choice(tuple(RADII_PIXELS)),
        _hidden_slots(rng),
    )
    return Clip(name, mover, stayer, looks.ground)


def _hidden_slots(rng: random.Random) -> tuple[int, ...]:
    """One to three slots: neither the first nor the last, and no two adjacent."""
    count = rng.randint(1, MAX_BLINKS)
    drawn = sorted(rng.sample(range(1, SLOTS - count), count))
    return tuple(slot + number for number, slot in enumerate(drawn))


def draw_indices(clip: Clip, frames: tuple[int, ...]) -> list[Image.Image]:
    """The frames in mode L: 0 is the background, 1 the mover, 2 the stayer."""
    images = []
    for frame in frames:
        image = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS), 0)
        pen = ImageDraw.Draw(image)
        draw_shape(pen, clip.mover.shape, clip.mover.at(frame), 1)
        box = clip.stayer.at(frame) if clip.stayer else None
        if clip.stayer and box:
            draw_shape(pen, clip.stayer.shape, box, 2)
        images.append(image)
    return images


def palette(clip: Clip) -> tuple[Color, Color, Color]:
    """RGB values of the indices 0, 1 and 2."""
    return (clip.ground, clip.mover.rgb, clip.stayer.rgb if clip.stayer else clip.ground)


def draw_clip(clip: Clip, frames: tuple[int, ...] = tuple(range(FRAMES))) -> NDArray[np.uint8]:
    """(frames, side, side, 3) RGB, without anti-aliasing."""
    indices = np.stack([np.asarray(image) for image in draw_indices(clip, frames)])
    pixels: NDArray[np.uint8] = np.array(palette(clip), dtype=np.uint8)[indices]
    return pixels
