"""Questions about clips that need more than one frame, with single-word answers.

Every fact asked about is drawn uniformly and independently of what the question says. The best a
reader of the question alone can do is one in six for colours, one in four for shapes and
directions, one in three for blinks, and one in two for the rest.
"""

from collections.abc import Callable

from epalm.demo.worlds.clips import Clip, Stayer
from epalm.demo.worlds.scene_questions import Question


def direction_question(clip: Clip) -> Question:
    """Four equally likely answers."""
    return Question("direction", "which way does it go?", clip.mover.direction)


def speed_question(clip: Clip) -> Question:
    """Two equally likely answers, named by the question."""
    return Question("speed", "is it slow or fast?", clip.speed)


def mover_question(clip: Clip) -> Question:
    """Four equally likely answers; a single frame leaves two."""
    return Question("mover", "which shape moves?", clip.mover.shape)


def mover_colour_question(clip: Clip) -> Question:
    """Six equally likely answers; a single frame leaves two."""
    return Question("mover color", "what color moves?", clip.mover.colour)


def stayer_question(clip: Clip) -> Question:
    """Four equally likely answers; a single frame leaves two."""
    return Question("stayer", "which shape stays?", _stayer(clip).shape)


def stayer_colour_question(clip: Clip) -> Question:
    """Six equally likely answers; a single frame leaves two."""
    return Question("stayer color", "what color stays?", _stayer(clip).colour)


def trend_question(clip: Clip) -> Question:
    """Two equally likely answers, named by the question."""
    return Question("trend", "does the other grow or shrink?", _stayer(clip).trend)


def blink_question(clip: Clip) -> Question:
    """Three equally likely answers."""
    return Question("blinks", "how often does the other blink?", str(len(_stayer(clip).hidden)))


CLIP_QUESTION_KINDS: dict[str, Callable[[Clip], Question]] = {
    "direction": direction_question,
    "speed": speed_question,
    "mover": mover_question,
    "mover color": mover_colour_question,
    "stayer": stayer_question,
    "stayer color": stayer_colour_question,
    "trend": trend_question,
    "blinks": blink_question,
}
"""Kind -> what makes such a question about a clip of both shapes."""


def ask_all_about(clip: Clip) -> list[Question]:
    """One question of every kind."""
    return [make(clip) for make in CLIP_QUESTION_KINDS.values()]


def describe_clip(clip: Clip) -> str:
    """Every fact: `slow red circle moves left, blue star stays and grows and blinks 2 times`."""
    mover, stayer = clip.mover, _stayer(clip)
    times = "time" if len(stayer.hidden) == 1 else "times"
    return (
        f"{clip.speed} {mover.colour} {mover.shape} moves {mover.direction}, "
        f"{stayer.colour} {stayer.shape} stays and {stayer.trend}s "
        f"and blinks {len(stayer.hidden)} {times}"
    )


def _stayer(clip: Clip) -> Stayer:
    assert clip.stayer is not None, "lone shapes belong to pretraining"
    return clip.stayer
