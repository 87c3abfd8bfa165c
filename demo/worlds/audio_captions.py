"""Captions of audio clips: each states the same five facts in a different wording."""

from epalm.demo.worlds.scene_questions import Question
from epalm.demo.worlds.sounds import Sound

COUNT_WORDS = ("one", "two", "three")
TIMES_WORDS = ("once", "twice", "thrice")
PLURALS = {"buzz": "buzzes"}

FORMS = (
    "{count} {pitch} {glide} {kinds} {background}",
    "{background} {count} {pitch} {kinds} going {glide}",
    "a {kind} heard {times} {pitch} and {glide} {background}",
    "someone plays {count} {kinds} {glide} at a {pitch} pitch {background}",
)
"""Caption templates. Template i takes the i-th word for pitch, glide and background below."""

PITCH_WORDS = {
    "low": ("low", "deep", "deep", "low"),
    "high": ("high", "shrill", "shrill", "high"),
}
GLIDE_WORDS = {
    "rising": ("rising", "up", "climbing", "upward"),
    "falling": ("falling", "down", "sinking", "downward"),
}
BACKGROUND_WORDS = {
    "silence": ("in silence", "in the quiet", "with nothing behind", "in silence"),
    "noise": ("over noise", "amid hiss", "with hiss behind", "over noise"),
    "ticking": ("over ticking", "while a clock ticks", "with a clock behind", "over ticking"),
}

MEANINGS: dict[str, dict[str, str]] = {
    "count": {
        "one": "1", "once": "1", "two": "2", "twice": "2", "three": "3", "thrice": "3",
    },
    "kind": {
        word: kind
        for kind in ("beep", "buzz", "chord", "trill")
        for word in (kind, PLURALS.get(kind, f"{kind}s"))
    },
    "pitch": {word: pitch for pitch, words in PITCH_WORDS.items() for word in words},
    "glide": {word: glide for glide, words in GLIDE_WORDS.items() for word in words},
    "background": {
        "silence": "silence", "quiet": "silence", "nothing": "silence",
        "noise": "noise", "hiss": "noise",
        "ticking": "ticking", "clock": "ticking",
    },
}  # fmt: skip
"""Fact -> word that states it -> value. No word states two facts."""


def captions(sound: Sound) -> list[str]:
    """One caption per template of `FORMS`: lower-case words separated by single spaces."""
    plural = PLURALS.get(sound.kind, f"{sound.kind}s")
    return [
        form.format(
            count=COUNT_WORDS[sound.count - 1],
            times=TIMES_WORDS[sound.count - 1],
            kind=sound.kind,
            kinds=sound.kind if sound.count == 1 else plural,
            pitch=PITCH_WORDS[sound.pitch][index],
            glide=GLIDE_WORDS[sound.glide][index],
            background=BACKGROUND_WORDS[sound.background][index],
        )
        for index, form in enumerate(FORMS)
    ]


def stated_facts(caption: str) -> dict[str, str]:
    """Fact -> value; facts that the caption omits or contradicts itself about are left out."""
    words = caption.split()
    facts = {}
    for fact, meanings in MEANINGS.items():
        values = {meanings[word] for word in words if word in meanings}
        if len(values) == 1:
            facts[fact] = values.pop()
    return facts


def sound_questions(sound: Sound) -> list[Question]:
    """One question per fact; only the pretraining texts of the language model use them."""
    return [
        Question("count", "how many sounds are there?", str(sound.count)),
        Question("kind", "what kind of sound is it?", sound.kind),
        Question("pitch", "is it low or high?", sound.pitch),
        Question("glide", "is it rising or falling?", sound.glide),
        Question("background", "what is behind it?", sound.background),
    ]
