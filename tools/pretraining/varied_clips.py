"""Clips for pretraining that go beyond the demo's: any background, more colors, lone shapes.

What the demo asks about is a part of this world; the rest keeps the encoder from being good for
dark gray backgrounds and six colors alone.
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
"""The word for a color and RGB values that bear it, of which one is drawn and then jittered."""

JITTER = 10
"""Largest change of each of a color's three values."""

LEAST_CONTRAST = 90
"""Sum of the differences between a shape's color and the background's, over the three values."""

DEMO_SHARE, PAIR_SHARE = 0.5, 0.2
"""Shares of clips of the demo's own kind, and of pairs in other colors; the rest are lone."""

LONE_TRAVEL_PIXELS = (8, 45)
LONE_HALF_PIXELS = (4, 13)


def make_varied_clip(name: str) -> Clip:
    """The clip of pretraining that belongs to `name`."""
    rng = random.Random(f"varied/{name}")
    kind = rng.random()
    if kind < DEMO_SHARE:
        return make_clip(name)
    if kind < DEMO_SHARE + PAIR_SHARE:
        return make_pair(name, rng, _looks(rng))
    return _lone_clip(name, rng)


def _looks(rng: random.Random) -> Looks:
    """Two colors of different names that stand out from the background."""
    while True:
        ground = _ground(rng)
        first, second = rng.sample(tuple(VARIED_COLORS), 2)
        colors = (_shade(rng, first), _shade(rng, second))
        if all(_contrast(ground, color) >= LEAST_CONTRAST for color in colors):
            return Looks((first, second), colors, ground)


def _ground(rng: random.Random) -> Color:
    """Pale, dark, or any color at all."""
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
    """One shape that starts anywhere and may leave the image."""
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
