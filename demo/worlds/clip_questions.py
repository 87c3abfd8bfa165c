"""Questions about videos that need more than one frame, with single-word answers.

Every fact that a question is about is drawn uniformly and independently of the question's words.
Chance accuracy from the question alone is therefore 1/6 for colors, 1/4 for shapes and directions,
1/3 for blinks, and 1/2 for the rest.
"""

from collections.abc import Callable

from epalm.demo.worlds.clips import Clip, Stayer
from epalm.demo.worlds.scene_questions import Question


def direction_question(clip: Clip) -> Question:
    """Four equally likely answers."""
    return Question("direction", "which way does it go?", clip.mover.direction)


def speed_question(clip: Clip) -> Question:
    """Two equally likely answers, both in the question."""
    return Question("speed", "is it slow or fast?", clip.speed)


def mover_question(clip: Clip) -> Question:
    """Four equally likely answers; two are left after one frame."""
    return Question("mover", "which shape moves?", clip.mover.shape)


def mover_color_question(clip: Clip) -> Question:
    """Six equally likely answers; two are left after one frame."""
    return Question("mover color", "what color moves?", clip.mover.color)


def stayer_question(clip: Clip) -> Question:
    """Four equally likely answers; two are left after one frame."""
    return Question("stayer", "which shape stays?", _stayer(clip).shape)


def stayer_color_question(clip: Clip) -> Question:
    """Six equally likely answers; two are left after one frame."""
    return Question("stayer color", "what color stays?", _stayer(clip).color)


def trend_question(clip: Clip) -> Question:
    """Two equally likely answers, both in the question."""
    return Question("trend", "does the other grow or shrink?", _stayer(clip).trend)


def blink_question(clip: Clip) -> Question:
    """Three equally likely answers."""
    return Question("blinks", "how often does the other blink?", str(len(_stayer(clip).hidden)))


CLIP_QUESTION_KINDS: dict[str, Callable[[Clip], Question]] = {
    "direction": direction_question,
    "speed": speed_question,
    "mover": mover_question,
    "mover color": mover_color_question,
    "stayer": stayer_question,
    "stayer color": stayer_color_question,
    "trend": trend_question,
    "blinks": blink_question,
}
"""Kind -> function that makes such a question about a clip with both shapes."""


def all_clip_questions(clip: Clip) -> list[Question]:
    """One question of every kind."""
    return [make(clip) for make in CLIP_QUESTION_KINDS.values()]


def describe_clip(clip: Clip) -> str:
    """A caption with every fact.

    E.g. `slow red circle moves left, blue star stays and grows and blinks 2 times`.
    """
    mover, stayer = clip.mover, _stayer(clip)
    times = "time" if len(stayer.hidden) == 1 else "times"
    return (
        f"{clip.speed} {mover.color} {mover.shape} moves {mover.direction}, "
        f"{stayer.color} {stayer.shape} stays and {stayer.trend}s "
        f"and blinks {len(stayer.hidden)} {times}"
    )


def _stayer(clip: Clip) -> Stayer:
    assert clip.stayer is not None, "only pretraining has clips with one shape"
    return clip.stayer
