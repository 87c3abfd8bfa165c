"""Pretraining texts of the small language model: descriptions, questions and answers.

A text begins with a description of an image, a video or an audio clip, or without one. Questions
with answers, or captions, follow. A frozen model can only be adapted to what it was pretrained on.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from epalm.demo.worlds.scene_questions import Question
from tools.pretraining.audio_texts import audio_text
from tools.pretraining.image_texts import image_text
from tools.pretraining.video_texts import video_text

QUESTIONS = 6
"""Number of questions per text."""

BARE = 0.05
"""Fraction of texts without a description."""

TextMaker = Callable[[str, random.Random, int], tuple[str, list[Question]]]

TEXT_MAKERS: dict[str, tuple[TextMaker, float]] = {
    "image": (image_text, 0.4),
    "video": (video_text, 0.3),
    "audio": (audio_text, 0.3),
}
"""Modality -> function that makes a description with questions, and fraction of the texts. Images
have the most facts, and facts about only one of two groups."""


@dataclass(frozen=True, slots=True)
class Text:
    """A description, which may be empty, and questions with answers."""

    opening: str
    questions: tuple[Question, ...]

    def plain(self) -> str:
        """The whole text, for training the tokenizer."""
        pairs = [f"{question.text} {question.answer}" for question in self.questions]
        return "\n".join([self.opening, *pairs])


def make_text(name: str) -> Text:
    """The text of this name, about any modality; equal names give equal texts."""
    rng = random.Random(f"world/{name}")
    modalities = tuple(TEXT_MAKERS)
    fractions = [fraction for _, fraction in TEXT_MAKERS.values()]
    return make_text_of(rng.choices(modalities, fractions)[0], name)


def make_text_of(modality: str, name: str) -> Text:
    """The text of this name about one modality."""
    rng = random.Random(f"text/{name}")
    opening, questions = TEXT_MAKERS[modality][0](name, rng, QUESTIONS)
    return Text("" if rng.random() < BARE else opening, tuple(questions))
