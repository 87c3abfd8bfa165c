"""Texts the micro language model is pretrained on: descriptions, questions, answers; no pictures.

A text opens with a description of a scene, or with nothing, and goes on with questions about it and
their answers. A frozen model can only be steered towards what such texts taught it.
"""

import random
from dataclasses import dataclass

from epalm.demo.questions import QUESTION_KINDS, Question, describe, noun_phrase
from epalm.demo.scenes import Scene, make_scene

QUESTIONS = 6
"""Questions per text."""

BARE = 0.05
"""Share of texts without a description."""

FACTS = 0.5
"""Share of descriptions that list the facts one by one; the others are phrases."""

REPHRASED = {
    "color": ("what is the color of the {s}s?", "the {s}s have which color?"),
    "shape": ("what is {c}?", "what {c} things are there?"),
    "count": ("what is the number of {s}s?", "count the {s}s?"),
    "size": ("how big are the {s}s?", "what size are the {s}s?"),
    "side": ("where are the {s}s?", "on which side are the {s}s?"),
}
"""Other ways to ask, by kind; {s} is the shape and {c} the colour of the group asked about."""


@dataclass(frozen=True, slots=True)
class Text:
    """A description, empty for none, and questions with their answers."""

    opening: str
    questions: tuple[Question, ...]

    def plain(self) -> str:
        """All parts in a row, to train a tokenizer on."""
        asked = [f"{question.text} {question.answer}" for question in self.questions]
        return "\n".join([self.opening, *asked])


def make_text(name: str) -> Text:
    """The text that belongs to `name`; equal names give equal texts."""
    rng = random.Random(f"text/{name}")
    scene = make_scene(f"text-scene/{name}")
    questions = [_ask(scene, kind, rng) for kind in rng.sample(tuple(QUESTION_KINDS), QUESTIONS)]
    opening = "" if rng.random() < BARE else _open(scene, rng)
    return Text(opening, tuple(questions))


def _ask(scene: Scene, kind: str, rng: random.Random) -> Question:
    """A question of this kind about either group; in one of four cases in other words."""
    group = rng.choice(scene.groups)
    question = QUESTION_KINDS[kind](scene, group, rng)
    if kind in REPHRASED and rng.random() < 0.25:
        text = rng.choice(REPHRASED[kind]).format(s=group.shape, c=group.colour)
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
    """Every fact of every group with its shape, in any order: `red circles, left circles, ...`."""
    facts = [
        f"{word} {group.shape}s"
        for group in scene.groups
        for word in (group.colour, str(group.count), group.size, group.side)
    ]
    rng.shuffle(facts)
    return ", ".join(facts)
