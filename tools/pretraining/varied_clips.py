"""Clips for pretraining that go beyond the demo's: any background, more colours, lone shapes.

What the demo asks about is a part of this world; the rest keeps the encoder from being good for
dark grey backgrounds and six colours alone.
"""

import random

from epalm.demo.worlds.clips import DIRECTIONS, Clip, Colour, Looks, Mover, make_clip, make_pair
from epalm.demo.worlds.scenes import COLOURS, SHAPES, SIDE_PIXELS, Place

VARIED_COLOURS: dict[str, tuple[Colour, ...]] = {
    **{word: (rgb,) for word, rgb in COLOURS.items()},
    "red": (COLOURS["red"], (255, 0, 0)),
    "green": (COLOURS["green"], (0, 255, 0), (0, 128, 0)),
    "blue": (COLOURS["blue"], (0, 0, 255)),
    "yellow": (COLOURS["yellow"], (255, 255, 0)),
    "teal": ((0, 128, 128),),
    "brown": ((139, 69, 19), (165, 42, 42)),
    "gray": ((128, 128, 128),),
    "black": ((8, 8, 8),),
    "orange": ((255, 140, 0),),
    "pink": ((255, 150, 190),),
}
"""The word for a colour and RGB values that bear it, of which one is drawn and then jittered."""

JITTER = 10
"""Largest change of each of a colour's three values."""

LEAST_CONTRAST = 90
"""Sum of the differences between a shape's colour and the background's, over the three values."""

DEMO_SHARE, PAIR_SHARE = 0.5, 0.2
"""Shares of clips of the demo's own kind, and of pairs in other colours; the rest are lone."""

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
    """Two colours of different names that stand out from the background."""
    while True:
        ground = _ground(rng)
        first, second = rng.sample(tuple(VARIED_COLOURS), 2)
        colours = (_shade(rng, first), _shade(rng, second))
        if all(_contrast(ground, colour) >= LEAST_CONTRAST for colour in colours):
            return Looks((first, second), colours, ground)


def _ground(rng: random.Random) -> Colour:
    """Pale, dark, or any colour at all."""
    least, most = rng.choice(((225, 255), (0, 60), (0, 255)))
    return (rng.randint(least, most), rng.randint(least, most), rng.randint(least, most))


def _shade(rng: random.Random, word: str) -> Colour:
    red, green, blue = (
        min(255, max(0, value + rng.randint(-JITTER, JITTER)))
        for value in rng.choice(VARIED_COLOURS[word])
    )
    return (red, green, blue)


def _contrast(one: Colour, other: Colour) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _lone_clip(name: str, rng: random.Random) -> Clip:
    """One shape that starts anywhere and may leave the picture."""
    looks = _looks(rng)
    shape = rng.choice(SHAPES)
    half = rng.randint(*LONE_HALF_PIXELS)
    height = rng.randint(*LONE_HALF_PIXELS) if shape == "square" else half
    start = (rng.randint(10, SIDE_PIXELS - 10), rng.randint(10, SIDE_PIXELS - 10))
    mover = Mover(
        shape,
        looks.words[0],
        looks.colours[0],
        Place(*start, half, height),
        rng.choice(tuple(DIRECTIONS)),
        rng.randint(*LONE_TRAVEL_PIXELS),
    )
    return Clip(name, mover, None, looks.ground)
