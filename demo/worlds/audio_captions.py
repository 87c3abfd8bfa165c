"""Captions of recordings: every one says the same five facts, each in words of its own."""

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
"""Wordings. The words for pitch, glide and background are those of the same place below."""

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
"""Fact -> word that tells it -> its value. No word tells two facts."""


def captions(sound: Sound) -> list[str]:
    """The recording in every wording of `FORMS`, lower-case words with single blanks between."""
    plural = PLURALS.get(sound.kind, f"{sound.kind}s")
    return [
        form.format(
            count=COUNT_WORDS[sound.count - 1],
            times=TIMES_WORDS[sound.count - 1],
            kind=sound.kind,
            kinds=sound.kind if sound.count == 1 else plural,
            pitch=PITCH_WORDS[sound.pitch][place],
            glide=GLIDE_WORDS[sound.glide][place],
            background=BACKGROUND_WORDS[sound.background][place],
        )
        for place, form in enumerate(FORMS)
    ]


def facts_told(caption: str) -> dict[str, str]:
    """The facts a caption tells; one that it leaves out, or tells in two ways, is missing."""
    words = caption.split()
    told = {}
    for fact, meanings in MEANINGS.items():
        values = {meanings[word] for word in words if word in meanings}
        if len(values) == 1:
            told[fact] = values.pop()
    return told


def sound_questions(sound: Sound) -> list[Question]:
    """One question about each fact; the language model's texts have them, the demo does not."""
    return [
        Question("count", "how many sounds are there?", str(sound.count)),
        Question("kind", "what kind of sound is it?", sound.kind),
        Question("pitch", "is it low or high?", sound.pitch),
        Question("glide", "is it rising or falling?", sound.glide),
        Question("background", "what is behind it?", sound.background),
    ]
