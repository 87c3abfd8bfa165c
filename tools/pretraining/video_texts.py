"""Descriptions of videos with questions, for the pretraining texts."""

import random

from epalm.demo.worlds.clip_questions import CLIP_QUESTION_KINDS, describe_clip
from epalm.demo.worlds.clips import Clip, make_clip
from epalm.demo.worlds.scene_questions import Question

FACTS = 0.5
"""Fraction of descriptions that list the facts separately; the others are sentences."""

REPHRASED_FRACTION = 0.25

REPHRASED = {
    "direction": ("where does it go?", "in which direction does it move?"),
    "speed": ("how fast is it?",),
    "mover": ("what moves?",),
    "mover color": ("which color moves?",),
    "stayer": ("what stays?",),
    "stayer color": ("which color stays?",),
    "trend": ("what does the other do?",),
    "blinks": ("how many times does the other blink?",),
}
"""Kind of question -> other wordings."""


def video_text(name: str, rng: random.Random, questions: int) -> tuple[str, list[Question]]:
    """A description of the clip of this name, and questions about it."""
    clip = make_clip(f"text-clip/{name}")
    kinds = rng.sample(tuple(CLIP_QUESTION_KINDS), questions)
    opening = _facts(clip, rng) if rng.random() < FACTS else describe_clip(clip)
    return opening, [_ask(clip, kind, rng) for kind in kinds]


def _ask(clip: Clip, kind: str, rng: random.Random) -> Question:
    question = CLIP_QUESTION_KINDS[kind](clip)
    if rng.random() < REPHRASED_FRACTION:
        return Question(kind, rng.choice(REPHRASED[kind]), question.answer)
    return question


def _facts(clip: Clip, rng: random.Random) -> str:
    """All facts in random order: `circle moves, goes left, blue stays, ...`."""
    mover, stayer = clip.mover, clip.stayer
    assert stayer is not None, "clips of the texts have both shapes"
    facts = [
        f"{mover.shape} moves",
        f"{mover.color} moves",
        f"goes {mover.direction}",
        clip.speed,
        f"{stayer.shape} stays",
        f"{stayer.color} stays",
        f"other {stayer.trend}s",
        f"blinks {len(stayer.hidden)}",
    ]
    rng.shuffle(facts)
    return ", ".join(facts)
