"""A small moving world: one shape crosses the picture, another stays and grows, shrinks and blinks.

Every clip is a pure function of a name, as scenes are. Which way the first shape goes, how far, and
what the second one does are drawn independently and uniformly. A single frame shows both shapes,
yet not which of them moves, where to, how fast, whether the other grows, or how often it blinks.
"""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from epalm.demo.worlds.scenes import (
    BACKGROUND_GREYS,
    COLOURS,
    SHAPES,
    SIDE_PIXELS,
    Place,
    draw_shape,
)

Colour = tuple[int, int, int]

FRAMES = 16
"""Frames of a clip."""

SLOT_FRAMES = 2
SLOTS = FRAMES // SLOT_FRAMES
"""What blinks is hidden for whole slots of two frames, so that an encoder that takes every other
frame sees every blink once."""

FRAME_MS = 100
"""How long a frame is shown."""

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""The word for a direction and what it adds to (x, y)."""

TRAVEL_PIXELS = {"slow": (15, 18), "fast": (30, 36)}
"""The word for a speed and the least and greatest way from the first frame to the last. At least a
pixel a frame: PIL drops frames of a GIF that equal the one before."""

MOVER_RADIUS_PIXELS = (6, 8)

RADII_PIXELS = {"grow": (4, 10), "shrink": (10, 4)}
"""What the shape that stays does, and its radius in the first and in the last frame."""

MAX_BLINKS = 3


@dataclass(frozen=True, slots=True)
class Mover:
    """The shape that crosses the picture.

    Attributes:
        shape: one of `SHAPES`.
        colour: the word for its colour.
        rgb: its colour.
        start: its place in the first frame.
        direction: a key of `DIRECTIONS`.
        travel: pixels from the first frame to the last.
    """

    shape: str
    colour: str
    rgb: Colour
    start: Place
    direction: str
    travel: int

    def at(self, frame: int) -> Place:
        """Its place in a frame."""
        way = round(self.travel * frame / (FRAMES - 1))
        across, down = DIRECTIONS[self.direction]
        start = self.start
        return Place(
            start.x + across * way, start.y + down * way, start.half_width, start.half_height
        )


@dataclass(frozen=True, slots=True)
class Stayer:
    """The shape that stays where it is.

    Attributes:
        shape: one of `SHAPES`.
        colour: the word for its colour.
        rgb: its colour.
        centre: (x, y) in pixels.
        trend: a key of `RADII_PIXELS`.
        hidden: slots in which it is not drawn, no two of them side by side.
    """

    shape: str
    colour: str
    rgb: Colour
    centre: tuple[int, int]
    trend: str
    hidden: tuple[int, ...]

    def at(self, frame: int) -> Place | None:
        """Its place in a frame; None where it is hidden."""
        if frame // SLOT_FRAMES in self.hidden:
            return None
        first, last = RADII_PIXELS[self.trend]
        radius = round(first + (last - first) * frame / (FRAMES - 1))
        return Place(*self.centre, radius, radius)


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip, as facts.

    Attributes:
        name: what it was made from; the same name gives the same clip.
        mover: the shape that crosses the picture.
        stayer: the other one; clips of the demo always have it.
        ground: colour of the background.
    """

    name: str
    mover: Mover
    stayer: Stayer | None
    ground: Colour

    @property
    def speed(self) -> str:
        """`slow` or `fast`."""
        slowest_fast = TRAVEL_PIXELS["fast"][0]
        return "fast" if self.mover.travel >= slowest_fast else "slow"


@dataclass(frozen=True, slots=True)
class Looks:
    """Words and values of the colours of a clip: the mover's, the stayer's, the background's."""

    words: tuple[str, str]
    colours: tuple[Colour, Colour]
    ground: Colour


def make_clip(name: str) -> Clip:
    """The clip of the demo that belongs to `name`; equal names give equal clips."""
    rng = random.Random(name)
    first, second = rng.sample(tuple(COLOURS), 2)
    grey = rng.choice(BACKGROUND_GREYS)
    looks = Looks((first, second), (COLOURS[first], COLOURS[second]), (grey, grey, grey))
    return make_pair(name, rng, looks)


def make_pair(name: str, rng: random.Random, looks: Looks) -> Clip:
    """A clip of both shapes: the mover keeps to one half of the picture, the stayer to the other.

    Args:
        name: of the clip.
        rng: decides everything but the colours.
        looks: the colours.
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
        looks.colours[0],
        Place(*start, radius, radius),
        direction,
        travel,
    )
    stayer = Stayer(
        shapes[1],
        looks.words[1],
        looks.colours[1],
        (column, row) if sideways else (row, column),
        rng.choice(tuple(RADII_PIXELS)),
        _hidden_slots(rng),
    )
    return Clip(name, mover, stayer, looks.ground)


def _hidden_slots(rng: random.Random) -> tuple[int, ...]:
    """One to three slots, none of them the first or the last, no two side by side."""
    count = rng.randint(1, MAX_BLINKS)
    drawn = sorted(rng.sample(range(1, SLOTS - count), count))
    return tuple(slot + number for number, slot in enumerate(drawn))


def draw_indices(clip: Clip, frames: tuple[int, ...]) -> list[Image.Image]:
    """The given frames in mode L: 0 where the background is, 1 the mover, 2 the stayer."""
    pictures = []
    for frame in frames:
        picture = Image.new("L", (SIDE_PIXELS, SIDE_PIXELS), 0)
        pen = ImageDraw.Draw(picture)
        draw_shape(pen, clip.mover.shape, clip.mover.at(frame), 1)
        place = clip.stayer.at(frame) if clip.stayer else None
        if clip.stayer and place:
            draw_shape(pen, clip.stayer.shape, place, 2)
        pictures.append(picture)
    return pictures


def palette(clip: Clip) -> tuple[Colour, Colour, Colour]:
    """The colours of the indices 0, 1 and 2."""
    return (clip.ground, clip.mover.rgb, clip.stayer.rgb if clip.stayer else clip.ground)


def draw_clip(clip: Clip, frames: tuple[int, ...] = tuple(range(FRAMES))) -> NDArray[np.uint8]:
    """(frames, side, side, 3) RGB, without anti-aliasing."""
    indices = np.stack([np.asarray(picture) for picture in draw_indices(clip, frames)])
    pixels: NDArray[np.uint8] = np.array(palette(clip), dtype=np.uint8)[indices]
    return pixels
