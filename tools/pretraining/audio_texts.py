"""Descriptions of audio clips with captions and questions, for the pretraining texts."""

import random

from epalm.demo.worlds.audio_captions import captions, sound_questions
from epalm.demo.worlds.scene_questions import Question
from epalm.demo.worlds.sounds import Sound, make_sound

FACTS = 0.5
"""Fraction of descriptions that list the facts separately; the others are captions."""

CAPTIONED = 0.6
"""Fraction of captions after a description; the others are questions."""


def audio_text(name: str, rng: random.Random, questions: int) -> tuple[str, list[Question]]:
    """A description of the audio clip of this name, and captions and questions about it."""
    sound = make_sound(f"text-sound/{name}")
    wordings = captions(sound)
    opening = _facts(sound, rng) if rng.random() < FACTS else rng.choice(wordings)
    about_facts = sound_questions(sound)
    return opening, [
        Question("caption", "", rng.choice(wordings))
        if rng.random() < CAPTIONED
        else rng.choice(about_facts)
        for _ in range(questions)
    ]


def _facts(sound: Sound, rng: random.Random) -> str:
    """All facts in random order: `2 sounds, high, a beep, rising, noise behind`."""
    facts = [
        f"{sound.count} sounds",
        sound.pitch,
        f"a {sound.kind}",
        sound.glide,
        f"{sound.background} behind",
    ]
    rng.shuffle(facts)
    return ", ".join(facts)
