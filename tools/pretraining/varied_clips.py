"""Pretraining videos more varied than the demo's: any background, more colors, single shapes.

Half of the videos are like the demo's. The others keep the encoder from working only with dark gray
backgrounds and six colors.
"""

import random

from epalm.demo.worlds.clips import DIRECTIONS, Clip, Color, Looks, Mover, make_clip, make_pair
from epalm.demo.worlds.scenes import COLORS, SHAPES, SIDE_PIXELS, Box

VARIED_COLORS: dict[str, tuple[Color, ...]] = {
    **{word: (rgb,) for word, rgb in COLORS.items()},
    "red": (COLORS["red"], (255, 0, 0)),
    "green": (COLORS["green"], (0, 255, 0), (0, 128, 0)),
    "blue": (COLORS["blue"], (0, 0, 255)),
    "yellow": (COLORS["yellow"], (255, 255, 0)),
    "teal": ((0, 128, 128),),
    "brown": ((139, 69, 19), (165, 42, 42)),
    "gray": ((128, 128, 128),),
    "black": ((8, 8, 8),),
    "orange": ((255, 140, 0),),
    "pink": ((255, 150, 190),),
}
"""Word for a color -> RGB values, of which one is drawn and then jittered."""

JITTER = 10
"""Largest change of each RGB value."""

MIN_CONTRAST = 90
"""Smallest sum of the differences between the RGB values of a shape and the background."""

DEMO_FRACTION, PAIR_FRACTION = 0.5, 0.2
"""Fractions of clips like the demo's, and of clips with two shapes in other colors; the rest have a
single shape."""

LONE_TRAVEL_PIXELS = (8, 45)
LONE_HALF_PIXELS = (4, 13)


def make_varied_clip(name: str) -> Clip:
    """The pretraining clip of this name."""
    rng = random.Random(f"varied/{name}")
    kind = rng.random()
    if kind < DEMO_FRACTION:
        return make_clip(name)
    if kind < DEMO_FRACTION + PAIR_FRACTION:
        return make_pair(name, rng, _looks(rng))
    return _lone_clip(name, rng)


def _looks(rng: random.Random) -> Looks:
    """Two different colors with enough contrast to the background."""
    while True:
        ground = _ground(rng)
        first, second = rng.sample(tuple(VARIED_COLORS), 2)
        colors = (_shade(rng, first), _shade(rng, second))
        if all(_contrast(ground, color) >= MIN_CONTRAST for color in colors):
            return Looks((first, second), colors, ground)


def _ground(rng: random.Random) -> Color:
    """A light, a dark or any background color."""
    least, most = rng.choice(((225, 255), (0, 60), (0, 255)))
    return (rng.randint(least, most), rng.randint(least, most), rng.randint(least, most))


def _shade(rng: random.Random, word: str) -> Color:
    red, green, blue = (
        min(255, max(0, value + rng.randint(-JITTER, JITTER)))
        for value in rng.choice(VARIED_COLORS[word])
    )
    return (red, green, blue)


def _contrast(one: Color, other: Color) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _lone_clip(name: str, rng: random.Random) -> Clip:
    """A clip with one shape, which starts anywhere and may leave the image."""
    looks = _looks(rng)
    shape = rng.choice(SHAPES)
    half = rng.randint(*LONE_HALF_PIXELS)
    height = rng.randint(*LONE_HALF_PIXELS) if shape == "square" else half
    start = (rng.randint(10, SIDE_PIXELS - 10), rng.randint(10, SIDE_PIXELS - 10))
    mover = Mover(
        shape,
        looks.words[0],
        looks.colors[0],
        Box(*start, half, height),
        rng.choice(tuple(DIRECTIONS)),
        rng.randint(*LONE_TRAVEL_PIXELS),
    )
    return Clip(name, mover, None, looks.ground)
