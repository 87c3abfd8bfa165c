"""Texts the micro language model is pretrained on: descriptions, questions, answers; no pictures.

A text is either a description of a scene followed by questions and answers about it, a few facts
followed by questions about just these facts, or questions with answers and no description. The
frozen model can only be steered towards what such texts taught it.
"""

import random

from epalm.demo.questions import QUESTION_KINDS, Question, describe, noun_phrase
from epalm.demo.scenes import Group, Scene, make_scene

SEPARATORS = ("", "", " answer:", " a:", " =", " :", " >", " -", "\n", " #", " |", " *", " /")
"""What may stand between a question and its answer; variety prepares for a separator of another
kind, such as the added token that question answering puts there."""

BREAKS = (" ", "\n", ". ", "; ")
"""What may stand after an answer or a description."""

REPHRASED = {
    "color": ("what is the color of the {s}s?", "the {s}s have which color?"),
    "shape": ("what is {c}?", "what {c} things are there?"),
    "count": ("what is the number of {s}s?", "count the {s}s?"),
    "size": ("how big are the {s}s?", "what size are the {s}s?"),
    "side": ("where are the {s}s?", "on which side are the {s}s?"),
}
"""Other ways to ask, by kind; {s} is the shape and {c} the colour of the group asked about."""


def make_pieces(name: str) -> list[str]:
    """The text that belongs to `name`, in pieces; equal names give equal texts.

    Returns:
        Pieces that join to the text; every piece with an odd index is an answer.
    """
    rng = random.Random(f"text/{name}")
    scene = make_scene(f"text-scene/{name}")
    draw = rng.random()
    if draw < 0.65:
        opening = _description(scene, rng)
        questions = [_ask(scene, kind, rng) for kind in QUESTION_KINDS]
    elif draw < 0.9:
        opening, questions = _few_facts(scene, rng)
    else:
        opening, questions = "", [_ask(scene, kind, rng) for kind in QUESTION_KINDS]
    rng.shuffle(questions)
    return _join(opening, questions[: rng.randint(3, 5)], rng)


def make_text(name: str) -> str:
    """The text that belongs to `name`."""
    return "".join(make_pieces(name))


def _join(opening: str, questions: list[Question], rng: random.Random) -> list[str]:
    separator, gap = rng.choice(SEPARATORS), rng.choice(BREAKS)
    pieces: list[str] = []
    for question in questions:
        before = gap if pieces else opening + gap if opening else ""
        pieces += [f"{before}{question.text}{separator}", f" {question.answer}"]
    return pieces


def _ask(scene: Scene, kind: str, rng: random.Random) -> Question:
    """A question of this kind; in one of three cases in other words."""
    group = rng.choice(scene.groups)
    question = QUESTION_KINDS[kind](scene, group, rng)
    if kind in REPHRASED and rng.random() < 1 / 3:
        text = rng.choice(REPHRASED[kind]).format(s=group.shape, c=group.colour)
        return Question(kind, text, question.answer)
    return question


def _description(scene: Scene, rng: random.Random) -> str:
    """All facts, as a caption, a sentence, tags or a list."""
    groups = list(scene.groups)
    rng.shuffle(groups)
    form = rng.randrange(4)
    if form == 0:
        return describe(scene)
    if form == 1:
        return " and ".join(f"{noun_phrase(group)} on the {group.side}" for group in groups)
    if form == 2:
        return ", ".join(_tags(group, rng) for group in groups)
    return "there are " + ", ".join(f"{noun_phrase(group)} {group.side}" for group in groups)


def _tags(group: Group, rng: random.Random) -> str:
    """The five words of a group in any order."""
    words = [group.side, str(group.count), group.size, group.colour, f"{group.shape}s"]
    rng.shuffle(words)
    return " ".join(words)


def _facts(group: Group) -> dict[str, str]:
    """One short sentence for each kind of question it answers."""
    shapes = f"{group.shape}s"
    return {
        "color": f"the {shapes} are {group.colour}",
        "count": f"there are {group.count} {shapes}",
        "size": f"the {shapes} are {group.size}",
        "side": f"the {shapes} are {group.side}",
    }


def _few_facts(scene: Scene, rng: random.Random) -> tuple[str, list[Question]]:
    """One to three facts about one group, and questions about these and no others."""
    group = rng.choice(scene.groups)
    facts = _facts(group)
    kinds = rng.sample(tuple(facts), rng.randint(1, 3))
    asked = [*kinds, "shape"] if "color" in kinds else kinds
    questions = [QUESTION_KINDS[kind](scene, group, rng) for kind in asked]
    return ". ".join(facts[kind] for kind in kinds), questions
