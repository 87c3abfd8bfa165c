"""Questions about scenes that need the image, and captions of scenes.

Every fact that a question is about is drawn uniformly and independently of the question's words.
Chance accuracy from the question alone is therefore 1/6 for colors, 1/4 for shapes, 1/3 for counts
and neighbors, about 1/3 for totals, and 1/2 for the rest.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from epalm.demo.worlds.scenes import COLORS, RADIUS_PIXELS, SHAPES, SIDES, Group, Scene


@dataclass(frozen=True, slots=True)
class Question:
    """A question with a single-word answer.

    Attributes:
        kind: kind of question, e.g. a key of `QUESTION_KINDS`.
        text: the question, with its question mark.
        answer: one word or digit.
    """

    kind: str
    text: str
    answer: str


def color_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Six equally likely answers."""
    del scene, rng
    return Question("color", f"what color are the {group.shape}s?", group.color)


def shape_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Four equally likely answers."""
    del scene, rng
    return Question("shape", f"which shape is {group.color}?", group.shape)


def count_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Three equally likely answers."""
    del scene, rng
    return Question("count", f"how many {group.shape}s are there?", str(group.count))


def size_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Two equally likely answers, both in the question."""
    del scene, rng
    sizes = " or ".join(RADIUS_PIXELS)
    return Question("size", f"are the {group.shape}s {sizes}?", group.size)


def side_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Two equally likely answers, both in the question."""
    del rng
    sides = " or ".join(SIDES[scene.axis])
    return Question("side", f"are the {group.shape}s {sides}?", group.side)


def neighbor_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """The other group's shape, given its side: three equally likely answers."""
    del rng
    other = scene.other(group)
    relation = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}[
        other.side
    ]
    return Question("neighbour", f"what is {relation} the {group.shape}s?", other.shape)


def presence_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Half yes; else the other group's color, an absent color or an absent shape, so no."""
    if rng.random() < 0.5:
        return Question("presence", f"is there a {group.color} {group.shape}?", "yes")
    other = scene.other(group)
    colors = [word for word in COLORS if word not in (group.color, other.color)]
    shapes = [word for word in SHAPES if word not in (group.shape, other.shape)]
    wrong = rng.choice(
        (
            (other.color, group.shape),
            (rng.choice(colors), group.shape),
            (group.color, rng.choice(shapes)),
        )
    )
    return Question("presence", f"is there a {' '.join(wrong)}?", "no")


def total_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """An answer from 2 to 6; the most frequent one is 4, with probability 1/3."""
    del group, rng
    total = sum(each.count for each in scene.groups)
    return Question("total", "how many things are there?", str(total))


def any_question(scene: Scene, group: Group, rng: random.Random) -> Question:
    """Half yes; a color or a shape that one group has, or that no group has."""
    about_color, yes = rng.random() < 0.5, rng.random() < 0.5
    words = tuple(COLORS) if about_color else SHAPES
    present = {each.color if about_color else each.shape for each in scene.groups}
    absent = [word for word in words if word not in present]
    word = (group.color if about_color else group.shape) if yes else rng.choice(absent)
    form = "is anything {}?" if about_color else "is there any {}?"
    return Question("any", form.format(word), "yes" if yes else "no")


QuestionMaker = Callable[[Scene, Group, random.Random], Question]

QUESTION_KINDS: dict[str, QuestionMaker] = {
    "color": color_question,
    "shape": shape_question,
    "count": count_question,
    "size": size_question,
    "side": side_question,
    "neighbour": neighbor_question,
    "presence": presence_question,
    "total": total_question,
    "any": any_question,
}
"""Kind -> function that makes such a question about one group of a scene."""


def all_scene_questions(scene: Scene) -> list[Question]:
    """One question of every kind, each about a group drawn with the scene's name as seed."""
    rng = random.Random(f"{scene.name}/questions")
    return [make(scene, rng.choice(scene.groups), rng) for make in QUESTION_KINDS.values()]


def describe(scene: Scene) -> str:
    """A caption with every fact, e.g. `left 2 small red circles, right 1 large blue star`."""
    return ", ".join(f"{group.side} {noun_phrase(group)}" for group in scene.groups)


def noun_phrase(group: Group) -> str:
    """Count, size, color and shape of a group, e.g. `2 small red circles`."""
    plural = "s" if group.count > 1 else ""
    return f"{group.count} {group.size} {group.color} {group.shape}{plural}"
