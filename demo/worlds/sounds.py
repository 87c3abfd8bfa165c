"""A small sounding world: one to three equal sounds over a background.

Every recording is a pure function of a name, as scenes are. How many sounds there are, of which
kind, how high, whether they rise or fall, and what lies behind them are drawn independently and
uniformly, so that no fact betrays another.
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
"""Each sound has a slot of its own, so there are at most three."""

SAMPLES = round(RATE_HZ * SLOT_SECONDS * SLOTS)
"""1.2 seconds: 118 frames of 25 ms every 10 ms, which fit into the encoder's 128."""

SOUND_SECONDS = (0.22, 0.3)
"""Least and greatest length of a sound."""

FADE_SECONDS = 0.015
"""How long a sound takes to begin and to end, so that it does not click."""

PITCHES_HZ = {"low": (220.0, 380.0), "high": (900.0, 1500.0)}
"""The word for a pitch and the range of a sound's middle frequency."""

GLIDES = {"rising": 1.6, "falling": 1 / 1.6}
"""The word for a glide and the last frequency of a sound as a multiple of the first."""

BACKGROUNDS = ("silence", "noise", "ticking")

NOISE_FLOOR = 3e-4
"""Of every recording: ten steps of 16 bits; digital silence would be known by its logarithm."""

NOISE_LEVELS = (0.03, 0.07)
TICKS_HZ = (8.0, 11.0)
TICK_SECONDS = 0.004
TICK_LEVEL = 0.5
SOUND_LEVELS = (0.25, 0.6)


def beep(phase: Wave) -> Wave:
    """A pure tone."""
    return np.sin(phase)


def buzz(phase: Wave) -> Wave:
    """Eight harmonics, each weaker than the one before."""
    harmonics = np.arange(1, 9)[:, None]
    mixed: Wave = (np.sin(phase * harmonics) / harmonics).sum(axis=0) / 2
    return mixed


def chord(phase: Wave) -> Wave:
    """A major triad."""
    return (np.sin(phase) + np.sin(phase * 5 / 4) + np.sin(phase * 3 / 2)) / 3


def trill(phase: Wave) -> Wave:
    """A tone whose loudness swells 35 times a second."""
    swell: Wave = np.sin(np.pi * 35 * np.arange(len(phase)) / RATE_HZ) ** 2
    return np.sin(phase) * swell


KINDS: dict[str, Callable[[Wave], Wave]] = {
    "beep": beep,
    "buzz": buzz,
    "chord": chord,
    "trill": trill,
}
"""The word for a sound and what makes it of the phase, in radians, of its lowest tone."""


@dataclass(frozen=True, slots=True)
class Event:
    """One sound of a recording: its first sample and its number of samples."""

    start: int
    samples: int


@dataclass(frozen=True, slots=True)
class Sound:
    """One recording, as facts.

    Attributes:
        name: what it was made from; the same name gives the same recording.
        kind: a key of `KINDS`.
        pitch: a key of `PITCHES_HZ`.
        glide: a key of `GLIDES`.
        background: one of `BACKGROUNDS`.
        events: when it sounds.
        frequency_hz: in the middle of every event.
        level: largest amplitude of the events, of 1.
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
        """How many sounds there are."""
        return len(self.events)


def make_sound(name: str) -> Sound:
    """The recording that belongs to `name`; equal names give equal recordings."""
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


def synthesise(sound: Sound) -> NDArray[np.int16]:
    """(`SAMPLES`,) at `RATE_HZ`, one channel."""
    noise = np.random.default_rng(list(sound.name.encode()))
    wave = NOISE_FLOOR * noise.standard_normal(SAMPLES) + _background(sound.background, noise)
    for event in sound.events:
        wave[event.start : event.start + event.samples] += _tone(sound, event.samples)
    return np.round(np.clip(wave, -1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def _tone(sound: Sound, samples: int) -> Wave:
    """One event: gliding on a logarithmic scale, through the sound's frequency in its middle."""
    place = np.arange(samples) / samples - 0.5
    frequency = sound.frequency_hz * GLIDES[sound.glide] ** place
    phase = 2 * np.pi * np.cumsum(frequency) / RATE_HZ
    fade = round(FADE_SECONDS * RATE_HZ)
    edge = np.minimum(np.arange(samples), np.arange(samples)[::-1]) / fade
    return sound.level * np.minimum(1, edge) * KINDS[sound.kind](phase)


def _background(word: str, noise: np.random.Generator) -> Wave:
    """(`SAMPLES`,) of what lies behind the sounds."""
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
