"""Texts the micro language model is pretrained on: descriptions, questions, answers; no media.

A text opens with a description of a still scene, a clip or a recording, or with nothing, and goes
on with questions about it and their answers, or with captions. A frozen model can only be steered
towards what such texts taught it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from epalm.demo.worlds.scene_questions import Question
from tools.pretraining.audio_texts import sounding_text
from tools.pretraining.image_texts import still_text
from tools.pretraining.video_texts import moving_text

QUESTIONS = 6
"""Questions per text."""

BARE = 0.05
"""Share of texts without a description."""

Maker = Callable[[str, random.Random, int], tuple[str, list[Question]]]

WORLDS: dict[str, tuple[Maker, float]] = {
    "image": (still_text, 0.4),
    "video": (moving_text, 0.3),
    "audio": (sounding_text, 0.3),
}
"""Modality -> what makes a description and questions about it, and its share of the texts. Still
scenes have the most facts, and facts that only hold of one of two groups."""


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
    """The text that belongs to `name`, of any world; equal names give equal texts."""
    rng = random.Random(f"world/{name}")
    worlds = tuple(WORLDS)
    shares = [share for _, share in WORLDS.values()]
    return make_text_about(rng.choices(worlds, shares)[0], name)


def make_text_about(world: str, name: str) -> Text:
    """The text of one of `WORLDS` that belongs to `name`."""
    rng = random.Random(f"text/{name}")
    opening, questions = WORLDS[world][0](name, rng, QUESTIONS)
    return Text("" if rng.random() < BARE else opening, tuple(questions))
