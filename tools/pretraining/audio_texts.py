"""Descriptions of recordings, the same in other words, and questions, for the texts."""

import random

from epalm.demo.worlds.audio_captions import captions, sound_questions
from epalm.demo.worlds.scene_questions import Question
from epalm.demo.worlds.sounds import Sound, make_sound

FACTS = 0.5
"""Share of descriptions that list the facts one by one; the others are captions."""

CAPTIONED = 0.6
"""Share of captions among what follows a description; the others are questions."""


def sounding_text(name: str, rng: random.Random, questions: int) -> tuple[str, list[Question]]:
    """A description of the recording of this name, then captions of it and questions about it."""
    sound = make_sound(f"text-sound/{name}")
    worded = captions(sound)
    opening = _facts(sound, rng) if rng.random() < FACTS else rng.choice(worded)
    asked = sound_questions(sound)
    return opening, [
        Question("caption", "", rng.choice(worded))
        if rng.random() < CAPTIONED
        else rng.choice(asked)
        for _ in range(questions)
    ]


def _facts(sound: Sound, rng: random.Random) -> str:
    """Every fact by itself, in any order: `2 sounds, high, a beep, rising, noise behind`."""
    facts = [
        f"{sound.count} sounds",
        sound.pitch,
        f"a {sound.kind}",
        sound.glide,
        f"{sound.background} behind",
    ]
    rng.shuffle(facts)
    return ", ".join(facts)
