"""Questions about scenes that need the picture, and captions that describe it.

Every kind of question is answered by facts that scenes draw uniformly and independently of what
the question mentions. The best a reader of the question alone can do is therefore one in six for
colours, one in four for shapes, one in three for numbers and neighbours, about one in three for
totals, and one in two for the rest.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from epalm.demo.worlds.scenes import COLOURS, RADIUS_PIXELS, SHAPES, SIDES, Group, Scene


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the single word that answers it.

    Attributes:
        kind: a key of `QUESTION_KINDS`.
        text: ends in a question mark.
        answer: one word or digit.
    """

    kind: str
    text: str
    answer: str


def colour_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Six equally likely answers."""
    del scene, rng
    return Question("color", f"what color are the {group.shape}s?", group.colour)


def shape_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Four equally likely answers."""
    del scene, rng
    return Question("shape", f"which shape is {group.colour}?", group.shape)


def count_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Three equally likely answers."""
    del scene, rng
    return Question("count", f"how many {group.shape}s are there?", str(group.count))


def size_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Two equally likely answers, named by the question."""
    del scene, rng
    sizes = " or ".join(RADIUS_PIXELS)
    return Question("size", f"are the {group.shape}s {sizes}?", group.size)


def side_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Two equally likely answers, named by the question."""
    del rng
    sides = " or ".join(SIDES[scene.axis])
    return Question("side", f"are the {group.shape}s {sides}?", group.side)


def neighbour_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """The other group's shape, by where it lies: three equally likely answers."""
    del rng
    other = scene.other(group)
    where = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}[other.side]
    return Question("neighbour", f"what is {where} the {group.shape}s?", other.shape)


def presence_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Half yes; the noes are a colour of the other group, an absent colour or an absent shape."""
    if rng.random() < 0.5:
        return Question("presence", f"is there a {group.colour} {group.shape}?", "yes")
    other = scene.other(group)
    colours = [word for word in COLOURS if word not in (group.colour, other.colour)]
    shapes = [word for word in SHAPES if word not in (group.shape, other.shape)]
    wrong = rng.choice(
        (
            (other.colour, group.shape),
            (rng.choice(colours), group.shape),
            (group.colour, rng.choice(shapes)),
        )
    )
    return Question("presence", f"is there a {' '.join(wrong)}?", "no")


def total_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """2 to 6, of which 4 is the most frequent with one in three."""
    del group, rng
    total = sum(one.count for one in scene.groups)
    return Question("total", "how many things are there?", str(total))


def any_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Half yes: a colour or a shape that a group has, or that none has."""
    colour, yes = rng.random() < 0.5, rng.random() < 0.5
    words = tuple(COLOURS) if colour else SHAPES
    shown = {one.colour if colour else one.shape for one in scene.groups}
    absent = [word for word in words if word not in shown]
    word = (group.colour if colour else group.shape) if yes else rng.choice(absent)
    form = "is anything {}?" if colour else "is there any {}?"
    return Question("any", form.format(word), "yes" if yes else "no")


QuestionMaker = Callable[[Scene, Group, random.Random], Question]

QUESTION_KINDS: dict[str, QuestionMaker] = {
    "color": colour_question,
    "shape": shape_question,
    "count": count_question,
    "size": size_question,
    "side": side_question,
    "neighbour": neighbour_question,
    "presence": presence_question,
    "total": total_question,
    "any": any_question,
}
"""Kind -> what makes such a question about one group of a scene."""


def ask_all(scene: Scene) -> list[Question]:
    """One question of every kind, each about a group drawn by the scene's name."""
    rng = random.Random(f"{scene.name}/questions")
    return [make(scene, rng.choice(scene.groups), rng) for make in QUESTION_KINDS.values()]


def describe(scene: Scene) -> str:
    """A caption that holds every fact, e.g. `left 2 small red circles, right 1 large blue star`."""
    return ", ".join(f"{group.side} {noun_phrase(group)}" for group in scene.groups)


def noun_phrase(group: Group) -> str:
    """Count, size, colour and shape of a group, e.g. `2 small red circles`."""
    plural = "s" if group.count > 1 else ""
    return f"{group.count} {group.size} {group.colour} {group.shape}{plural}"
