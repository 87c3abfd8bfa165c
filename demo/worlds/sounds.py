"""Synthetic audio clips: one to three equal sounds over a background.

Every clip is a pure function of its name, as every scene is. The number of sounds, their kind,
pitch and glide, and the background are drawn independently and uniformly, so that no fact predicts
another.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float64]

RATE_HZ = 16_000
SLOT_SECONDS = 0.4
SLOTS = 3
"""Each sound has its own slot, so there are at most three."""

SAMPLES = round(RATE_HZ * SLOT_SECONDS * SLOTS)
"""Length of a clip, 1.2 seconds: 118 frames of 25 ms every 10 ms; the encoder takes up to 128."""

SOUND_SECONDS = (0.22, 0.3)
"""Minimum and maximum length of a sound."""

FADE_SECONDS = 0.015
"""Length of the fade in and fade out of a sound, which prevent clicks."""

PITCHES_HZ = {"low": (220.0, 380.0), "high": (900.0, 1500.0)}
"""Word for a pitch -> range of the frequency in the middle of a sound."""

GLIDES = {"rising": 1.6, "falling": 1 / 1.6}
"""Word for a glide -> last frequency of a sound divided by its first."""

BACKGROUNDS = ("silence", "noise", "ticking")

NOISE_FLOOR = 3e-4
"""Standard deviation of the noise in every clip, ten steps at 16 bits; without it, the logarithm in
the spectrogram would give digital silence away."""

NOISE_LEVELS = (0.03, 0.07)
TICKS_HZ = (8.0, 11.0)
TICK_SECONDS = 0.004
TICK_LEVEL = 0.5
SOUND_LEVELS = (0.25, 0.6)


def beep(phase: Wave) -> Wave:
    """A pure tone."""
    return np.sin(phase)


def buzz(phase: Wave) -> Wave:
    """Eight harmonics of decreasing amplitude."""
    harmonics = np.arange(1, 9)[:, None]
    mixed: Wave = (np.sin(phase * harmonics) / harmonics).sum(axis=0) / 2
    return mixed


def chord(phase: Wave) -> Wave:
    """A major triad."""
    return (np.sin(phase) + np.sin(phase * 5 / 4) + np.sin(phase * 3 / 2)) / 3


def trill(phase: Wave) -> Wave:
    """A tone with 35 Hz amplitude modulation."""
    swell: Wave = np.sin(np.pi * 35 * np.arange(len(phase)) / RATE_HZ) ** 2
    return np.sin(phase) * swell


KINDS: dict[str, Callable[[Wave], Wave]] = {
    "beep": beep,
    "buzz": buzz,
    "chord": chord,
    "trill": trill,
}
"""Word for a sound -> function from the phase of its lowest tone, in radians, to the waveform."""


@dataclass(frozen=True, slots=True)
class Event:
    """One sound in a clip: its first sample and its number of samples."""

    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class Sound:
    """The facts of one audio clip.

    Attributes:
        name: random seed of the clip.
        kind: a key of `KINDS`.
        pitch: a key of `PITCHES_HZ`.
        glide: a key of `GLIDES`.
        background: one of `BACKGROUNDS`.
        events: start and length of every sound.
        frequency_hz: frequency in the middle of every sound.
        level: peak amplitude of the sounds; full scale is 1.
    """

    name: str
    kind: str
    pitch: str
    glide: str
    background: str
    events: tuple[Event, ...]
    frequency_hz: float
    level: float

    @property
    def count(self) -> int:
        """Number of sounds."""
        return len(self.events)


def make_sound(name: str) -> Sound:
    """The audio clip of this name; equal names give equal clips."""
    rng = random.Random(name)
    pitch = rng.choice(tuple(PITCHES_HZ))
    return Sound(
        name=name,
        kind=rng.choice(tuple(KINDS)),
        pitch=pitch,
        glide=rng.choice(tuple(GLIDES)),
        background=rng.choice(BACKGROUNDS),
        events=_events(rng),
        frequency_hz=rng.uniform(*PITCHES_HZ[pitch]),
        level=rng.uniform(*SOUND_LEVELS),
    )


def _events(rng: random.Random) -> tuple[Event, ...]:
    slots = sorted(rng.sample(range(SLOTS), rng.randint(1, SLOTS)))
    slot_samples = SAMPLES // SLOTS
    events = []
    for slot in slots:
        samples = round(rng.uniform(*SOUND_SECONDS) * RATE_HZ)
        events.append(Event(slot * slot_samples + rng.randint(0, slot_samples - samples), samples))
    return tuple(events)


def synthesize(sound: Sound) -> NDArray[np.int16]:
    """(`SAMPLES`,) mono waveform at `RATE_HZ`."""
    noise = np.random.default_rng(list(sound.name.encode()))
    wave = NOISE_FLOOR * noise.standard_normal(SAMPLES) + _background(sound.background, noise)
    for event in sound.events:
        wave[event.start : event.start + event.samples] += _tone(sound, event.samples)
    return np.round(np.clip(wave, -1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def _tone(sound: Sound, samples: int) -> Wave:
    """One sound with an exponential glide; its frequency in the middle is `frequency_hz`."""
    position = np.arange(samples) / samples - 0.5
    frequency = sound.frequency_hz * GLIDES[sound.glide] ** position
    phase = 2 * np.pi * np.cumsum(frequency) / RATE_HZ
    fade = round(FADE_SECONDS * RATE_HZ)
    edge = np.minimum(np.arange(samples), np.arange(samples)[::-1]) / fade
    return sound.level * np.minimum(1, edge) * KINDS[sound.kind](phase)


def _background(word: str, noise: np.random.Generator) -> Wave:
    """(`SAMPLES`,) waveform of the background."""
    if word == "noise":
        return noise.uniform(*NOISE_LEVELS) * noise.standard_normal(SAMPLES)
    wave = np.zeros(SAMPLES)
    if word == "ticking":
        tick = TICK_LEVEL * noise.standard_normal(round(TICK_SECONDS * RATE_HZ))
        tick *= np.linspace(1, 0, len(tick))
        period = round(RATE_HZ / noise.uniform(*TICKS_HZ))
        for start in range(noise.integers(period), SAMPLES - len(tick), period):
            wave[start : start + len(tick)] += tick
    return wave
