"""Recordings against a reader that sees nothing but the samples."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from epalm.demo.descriptions import score_descriptions
from epalm.demo.worlds.audio_captions import FORMS, MEANINGS, captions, stated_facts
from epalm.demo.worlds.sounds import PITCHES_HZ, RATE_HZ, SAMPLES, Sound, make_sound, synthesize
from epalm.errors import MissingToolError
from epalm.metrics.captions.caption_metrics import require_tools, tokenize
from epalm.tasks.types import Example, Prediction

BLOCK = 160


def facts(sound: Sound) -> dict[str, str]:
    return {
        "count": str(sound.count),
        "kind": sound.kind,
        "pitch": sound.pitch,
        "glide": sound.glide,
        "background": sound.background,
    }


def spans(samples: NDArray[np.int16]) -> list[tuple[int, int]]:
    """First and last sample of each stretch that is loud."""
    loud = np.abs(samples.astype(float)).reshape(-1, BLOCK).max(axis=1) > 1000
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    return [(first * BLOCK, last * BLOCK) for first, last in edges.reshape(-1, 2)]


def strongest_hz(samples: NDArray[np.int16]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 16))
    return float(spectrum.argmax()) * RATE_HZ / (1 << 16)


def sounds_where(stream: str, count: int, **required: str) -> list[Sound]:
    drawn = (make_sound(f"{stream}/{number}") for number in range(1000))
    fitting = [one for one in drawn if all(getattr(one, k) == v for k, v in required.items())]
    assert len(fitting) >= count
    return fitting[:count]


def test_count_pitch_and_glide_of_beeps_follow_from_the_waveform() -> None:
    for sound in sounds_where("test", 20, background="silence", kind="beep"):
        samples = synthesize(sound)
        actual = spans(samples)
        assert len(actual) == sound.count
        first, last = actual[0]
        third = (last - first) // 3
        start, end = (
            strongest_hz(samples[first:][:third]),
            strongest_hz(samples[last - third : last]),
        )
        assert ("rising" if end > start else "falling") == sound.glide
        assert ("high" if (start * end) ** 0.5 > 600 else "low") == sound.pitch


def test_the_background_follows_from_the_level_between_sounds() -> None:
    for word in ("silence", "noise", "ticking"):
        for sound in sounds_where("background", 10, background=word):
            gaps = np.ones(SAMPLES, dtype=bool)
            for event in sound.events:
                gaps[event.start : event.start + event.samples] = False
            blocks = np.abs(synthesize(sound)[gaps][: gaps.sum() // BLOCK * BLOCK].astype(float))
            levels = blocks.reshape(-1, BLOCK).max(axis=1)
            ratio = levels.max() / np.median(levels)
            read = "ticking" if ratio > 20 else "noise" if np.median(levels) > 500 else "silence"
            assert read == word


def test_every_caption_states_all_facts_of_the_audio_clip() -> None:
    for number in range(60):
        sound = make_sound(f"caption/{number}")
        worded = captions(sound)
        assert len(set(worded)) == len(FORMS)
        for caption in worded:
            assert stated_facts(caption) == facts(sound), caption


def test_a_caption_with_two_values_of_a_fact_does_not_state_it() -> None:
    assert stated_facts("two high low beeps") == {"count": "2", "kind": "beep"}


def test_no_word_states_two_facts() -> None:
    words = [word for meanings in MEANINGS.values() for word in meanings]
    assert len(words) == len(set(words))


def test_the_facts_of_an_audio_clip_are_uniform_and_independent() -> None:
    drawn = [facts(make_sound(f"demo-0/train/{number}")) for number in range(1400)]
    for fact in MEANINGS:
        counts = Counter(one[fact] for one in drawn)
        assert counts.most_common(1)[0][1] / len(drawn) < 1 / len(counts) + 0.05
    for known, asked in permutations(MEANINGS, 2):
        pairs = Counter((one[known], one[asked]) for one in drawn)
        best = sum(
            max(count for (word, _), count in pairs.items() if word == value)
            for value in {word for word, _ in pairs}
        )
        assert best / len(drawn) < 1 / len({one[asked] for one in drawn}) + 0.07


def test_a_name_always_gives_the_same_audio_clip() -> None:
    first, again, other = (synthesize(make_sound(name)) for name in ("a/1", "a/1", "a/2"))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
    assert first.shape == (SAMPLES,)


def test_the_audio_clip_of_a_name_is_the_same_as_when_the_weights_were_trained() -> None:
    assert captions(make_sound("fixed"))[0] == "one low falling buzz over ticking"


def test_the_pitches_do_not_overlap_while_they_glide() -> None:
    assert PITCHES_HZ["low"][1] * 1.6**0.5 < PITCHES_HZ["high"][0] / 1.6**0.5


def test_scores_count_correct_facts_and_captions_with_all_facts() -> None:
    references = ("two high rising beeps over noise", "amid hiss two shrill beeps going up")
    examples = [Example(str(n), str(n), "", references, references) for n in range(2)]
    output = ["two shrill beeps climbing with hiss behind", "a low beep rising over noise"]
    predictions = [Prediction(str(n), str(n), text) for n, text in enumerate(output)]
    scores = score_descriptions(predictions, examples)
    assert scores.per_example["facts_told"].tolist() == [1.0, 0.6]
    assert scores.values["facts_told"] == pytest.approx(0.8)
    assert scores.values["all_facts"] == 0.5
    assert scores.headline == "facts_told"


def java_runs() -> bool:
    try:
        require_tools()
    except MissingToolError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not java_runs(), reason="there is no Java")
def test_the_official_tokenizer_does_not_change_captions() -> None:
    output = [one for number in range(100) for one in captions(make_sound(f"words/{number}"))]
    assert tokenize(output) == output
