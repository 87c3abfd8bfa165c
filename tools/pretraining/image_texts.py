"""Descriptions of images with questions, for the pretraining texts."""

import random

from epalm.demo.worlds.scene_questions import QUESTION_KINDS, Question, describe, noun_phrase
from epalm.demo.worlds.scenes import Scene, make_scene

FACTS = 0.5
"""Fraction of descriptions that list the facts separately; the others are phrases."""

REPHRASED_FRACTION = 0.25

REPHRASED = {
    "color": ("what is the color of the {s}s?", "the {s}s have which color?"),
    "shape": ("what is {c}?", "what {c} things are there?"),
    "count": ("what is the number of {s}s?", "count the {s}s?"),
    "size": ("how big are the {s}s?", "what size are the {s}s?"),
    "side": ("where are the {s}s?", "on which side are the {s}s?"),
}
"""Kind of question -> other wordings; {s} is the shape and {c} the color of the group."""


def image_text(name: str, rng: random.Random, questions: int) -> tuple[str, list[Question]]:
    """A description of the scene of this name, and questions about it."""
    scene = make_scene(f"text-scene/{name}")
    kinds = rng.sample(tuple(QUESTION_KINDS), questions)
    return _open(scene, rng), [_ask(scene, kind, rng) for kind in kinds]


def _ask(scene: Scene, kind: str, rng: random.Random) -> Question:
    """A question of this kind about a random group, sometimes in another wording."""
    group = rng.choice(scene.groups)
    question = QUESTION_KINDS[kind](scene, group, rng)
    if kind in REPHRASED and rng.random() < REPHRASED_FRACTION:
        text = rng.choice(REPHRASED[kind]).format(s=group.shape, c=group.color)
        return Question(kind, text, question.answer)
    return question


def _open(scene: Scene, rng: random.Random) -> str:
    if rng.random() < FACTS:
        return _facts(scene, rng)
    groups = rng.sample(scene.groups, 2)
    phrases = [noun_phrase(group) for group in groups]
    sides = [group.side for group in groups]
    placed = [f"{phrase} on the {side}" for phrase, side in zip(phrases, sides, strict=True)]
    listed = [f"{phrase} {side}" for phrase, side in zip(phrases, sides, strict=True)]
    return rng.choice(
        (describe(scene), " and ".join(placed), "there are " + ", ".join(listed)),
    )


def _facts(scene: Scene, rng: random.Random) -> str:
    """All facts of all groups in random order: `red circles, left circles, ...`."""
    facts = [
        f"{word} {group.shape}s"
        for group in scene.groups
        for word in (group.color, str(group.count), group.size, group.side)
    ]
    rng.shuffle(facts)
    return ", ".join(facts)
