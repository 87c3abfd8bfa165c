"""Features of audio clips equal those of the feature extractors of transformers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from transformers import ClapFeatureExtractor, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from epalm.errors import MediaError
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.extract.transforms.waveform_features import WaveformLoader, WaveformPreset
from epalm.tasks.types import MediaItem

MEL = (("feature_size", 80), ("n_fft", 400), ("hop_length", 160))
WHISPER = WaveformPreset("whisper log mel", 16_000, 30, MEL)
WAVE = WaveformPreset("waveform", 16_000, 1.0, (("do_normalize", True),))
CLAP = WaveformPreset("clap mel", 48_000, 10, (("truncation", "rand_trunc"),))
FUSED = WaveformPreset("clap mel", 48_000, 10, (("truncation", "fusion"),))


def clip(
    folder: Path, rate: int, seconds: float, channels: int = 1
) -> tuple[MediaItem, np.ndarray]:
    """A clip of noise, and its samples as they are stored."""
    shape = (round(rate * seconds), channels)
    samples = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
    soundfile.write(folder / "a.wav", samples, rate, subtype="FLOAT")
    return MediaItem("a", folder, "a.wav", "audio"), samples


def test_whispers_spectrogram_equals_the_librarys(tmp_path: Path) -> None:
    item, samples = clip(tmp_path, 16_000, 1.5, channels=2)
    library = WhisperFeatureExtractor()
    mono = samples.mean(axis=1)
    expected = library(mono, sampling_rate=16_000, return_tensors="np")["input_features"][0]
    found = WaveformLoader(WHISPER)(item, 0)
    assert found.shape == (80, 3000)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_waveform_equals_the_librarys_with_zeros_after_it(tmp_path: Path) -> None:
    item, samples = clip(tmp_path, 16_000, 0.5)
    library = Wav2Vec2FeatureExtractor()
    expected = library(samples[:, 0], sampling_rate=16_000)["input_values"][0]
    found = WaveformLoader(WAVE)(item, 0)
    assert found.shape == (16_000,)
    np.testing.assert_allclose(found[:8000], expected, rtol=0, atol=1e-5)
    assert not found[8000:].any()


@pytest.mark.parametrize(("preset", "copies"), [(CLAP, 1), (FUSED, 4)])
def test_claps_spectrogram_equals_the_librarys(
    preset: WaveformPreset, copies: int, tmp_path: Path
) -> None:
    item, samples = clip(tmp_path, 48_000, 2)
    library = ClapFeatureExtractor(**dict(preset.options))
    features = library(samples[:, 0], sampling_rate=48_000, return_tensors="np")
    found = WaveformLoader(preset)(item, 0)
    assert found.shape == (copies, 1001, 64)
    np.testing.assert_allclose(found, features["input_features"][0], rtol=0, atol=1e-4)


def test_a_long_clip_is_cut_at_its_end(tmp_path: Path) -> None:
    item, samples = clip(tmp_path, 16_000, 3)
    found = WaveformLoader(WAVE)(item, 0)
    first = samples[:16_000, 0]
    expected = (first - first.mean()) / np.sqrt(first.var() + 1e-7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    time = np.arange(8_000) / 8_000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 8_000)
    found = WaveformLoader(WAVE)(MediaItem("a", tmp_path, "a.wav", "audio"), 0)
    peak = np.abs(np.fft.rfft(found)).argmax()
    assert peak == 440, "one second at 16 kHz: bins of 1 Hz"


def test_a_clip_that_is_too_short_is_refused(tmp_path: Path) -> None:
    item, _ = clip(tmp_path, 16_000, 0.01)
    with pytest.raises(MediaError, match=r"a.wav: 10.0 ms, at least 25 ms are needed"):
        WaveformLoader(WAVE)(item, 0)


@pytest.mark.parametrize("preset", [WHISPER, WAVE, CLAP])
def test_later_views_are_masked_and_the_same_in_every_process(
    preset: WaveformPreset, tmp_path: Path
) -> None:
    item, _ = clip(tmp_path, preset.sampling_rate, 1)
    load = WaveformLoader(preset, AugmentedViews(4, 7))
    views = [load(item, view) for view in range(4)]
    again = pickle.loads(pickle.dumps(load))
    assert len(pickle.dumps(load)) < 2000
    for view, features in enumerate(views):
        assert np.array_equal(features, again(item, view))
    assert len({features.tobytes() for features in views}) > 2
    changed = views[2] != views[0]
    silence = 0 if preset is WAVE else views[0].min()
    assert (views[2][changed] == silence).all()
    assert {"views.seed", "preprocessing.sampling_rate"} <= load.fingerprint().keys()
