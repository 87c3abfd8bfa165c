"""Audio clips as inputs of Whisper, wav2vec 2.0, HuBERT and CLAP: the features of transformers.

The features are computed by the feature extractors of transformers, from one channel at the model's
rate. A clip that is longer than the model's window is cut at its end: where the library would draw
a random crop (CLAP), the first seconds are taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from epalm.errors import MediaError
from epalm.extract.transforms.filter_bank import (
    MASKED_BINS,
    MASKED_FRAMES,
    OF_BINS,
    OF_FRAMES,
    change_rate,
    draw_mask,
)
from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews, generator_for
from epalm.extract.transforms.last_item_cache import LastItemCache
from epalm.media.audio_decode import AUDIO_POLICY, decode_audio
from epalm.tasks.types import MediaItem

Array = NDArray[np.float32]

LEAST_SECONDS = 0.025
"""Shortest clip: one window of the convolutions of wav2vec 2.0."""

_MARGIN_SECONDS = 0.02
"""Time read beyond the window, so that resampling has no edge there, seconds."""


@dataclass(frozen=True)
class WaveformPreset:
    """How an audio clip becomes the model's input; every field changes the features.

    Attributes:
        extractor: a key of `EXTRACTORS`.
        sampling_rate: rate after resampling, Hz.
        seconds: length of the window; longer clips are cut.
        options: further arguments of the feature extractor, by name.
    """

    extractor: str
    sampling_rate: int
    seconds: float
    options: tuple[tuple[str, Any], ...] = ()

    def fingerprint(self) -> dict[str, str]:
        """Each setting as text, named `preprocessing.<name>`."""
        fields = {
            "name": "native",
            "extractor": self.extractor,
            "channels": "mean",
            "sampling_rate": self.sampling_rate,
            "seconds": self.seconds,
            **dict(self.options),
        }
        return {f"preprocessing.{name}": str(value) for name, value in fields.items()}


@dataclass(frozen=True)
class WaveformLoader:
    """Decodes an audio clip, or the audio track of a video, and makes one view of its features.

    Views after the first have a range of time masked and, in spectrograms, a band of bins.

    Attributes:
        preset: settings of the features.
        views: number and seed of the views; the augmentation of images does not apply.
    """

    preset: WaveformPreset
    views: AugmentedViews = ONE_VIEW
    _last: LastItemCache[Array] = field(default_factory=LastItemCache, compare=False, repr=False)

    def __call__(self, item: MediaItem, view: int) -> Array:
        """The features of a clip, float32; see `decode` and `transform`."""
        return self.transform(self._last.get(item, self.decode), item, view=view)

    def fingerprint(self) -> dict[str, str]:
        """Every setting of decoding, features and masks, as text."""
        return {"decode": AUDIO_POLICY, **self.preset.fingerprint(), **self._mask_fingerprint()}

    def decode(self, item: MediaItem) -> Array:
        """Compute the features of a clip, float32.

        Raises:
            MediaError: the clip cannot be decoded, is too short, or has values that are too large.
        """
        rate, seconds = self.preset.sampling_rate, self.preset.seconds
        clip = decode_audio(item.path, seconds=seconds + _MARGIN_SECONDS)
        channel = torch.from_numpy(clip.samples.mean(axis=0))
        samples = change_rate(channel, clip.rate, rate)[: round(seconds * rate)].numpy()
        if len(samples) < LEAST_SECONDS * rate:
            raise MediaError(
                f"{item.path.name}: {1000 * len(samples) / rate:.1f} ms, at least "
                f"{1000 * LEAST_SECONDS:.0f} ms are needed"
            )
        features = EXTRACTORS[self.preset.extractor](samples, self.preset)
        if not np.isfinite(features).all():
            loudest = np.abs(clip.samples).max()
            raise MediaError(f"{item.path.name}: values up to {loudest:.3g}, expected -1 to 1")
        return features

    def transform(self, features: Array, item: MediaItem, *, view: int) -> Array:
        """Make a view of the features, of the same shape.

        Raises:
            ValueError: there is no such view.
        """
        self.views.check(view)
        if view == 0:
            return features
        generator = generator_for(self.views.seed, item.key, view)
        masked, silence = features.copy(), features.min()
        time, bins = AXES[self.preset.extractor]
        if bins is None:
            silence = np.float32(0)
        else:
            size = features.shape[bins]
            low, high = draw_mask(size, MASKED_BINS * size / OF_BINS, generator)
            np.moveaxis(masked, bins, 0)[low:high] = silence
        frames = features.shape[time]
        start, stop = draw_mask(frames, MASKED_FRAMES * frames / OF_FRAMES, generator)
        np.moveaxis(masked, time, 0)[start:stop] = silence
        return masked

    def _mask_fingerprint(self) -> dict[str, str]:
        if self.views.count == 1:
            return {}
        return {
            "views.seed": str(self.views.seed),
            "views.generator": "PCG64 of BLAKE2b-128 of seed, view, key",
            "views.masked_bins": f"{MASKED_BINS} of {OF_BINS}",
            "views.masked_frames": f"{MASKED_FRAMES} of {OF_FRAMES}",
            "views.mask_value": "lowest value of a spectrogram, 0 of a waveform",
        }


@cache
def _made(extractor: Any, preset: WaveformPreset, seconds: str = "") -> Any:  # noqa: ANN401
    """A feature extractor; making one computes its filters, so each process keeps it.

    Args:
        extractor: class of the feature extractor.
        preset: settings of the feature extractor.
        seconds: name of its argument for the length of the window; "" if it has none.
    """
    length = {seconds: round(preset.seconds)} if seconds else {}
    return extractor(sampling_rate=preset.sampling_rate, **length, **dict(preset.options))


def _log_mel(samples: Array, preset: WaveformPreset) -> Array:
    """Whisper's log mel spectrogram, (bins, frames)."""
    from transformers import WhisperFeatureExtractor

    extractor = _made(WhisperFeatureExtractor, preset, "chunk_length")
    features = extractor(samples, sampling_rate=preset.sampling_rate, return_tensors="np")
    array: Array = features["input_features"][0].astype(np.float32)
    return array


def _waveform(samples: Array, preset: WaveformPreset) -> Array:
    """The waveform for wav2vec 2.0 and HuBERT, (samples,), with zeros after the clip."""
    from transformers import Wav2Vec2FeatureExtractor

    extractor = _made(Wav2Vec2FeatureExtractor, preset)
    values = extractor(samples, sampling_rate=preset.sampling_rate)["input_values"][0]
    padded = np.zeros(round(preset.seconds * preset.sampling_rate), np.float32)
    padded[: len(values)] = values
    return padded


def _clap_mel(samples: Array, preset: WaveformPreset) -> Array:
    """CLAP's mel spectrogram, (1 or 4, frames, bins); 4 equal ones for models with fusion."""
    from transformers import ClapFeatureExtractor

    extractor = _made(ClapFeatureExtractor, preset, "max_length_s")
    features = extractor(samples, sampling_rate=preset.sampling_rate, return_tensors="np")
    array: Array = features["input_features"][0].astype(np.float32)
    return array


EXTRACTORS: dict[str, Callable[[Array, WaveformPreset], Array]] = {
    "whisper log mel": _log_mel,
    "waveform": _waveform,
    "clap mel": _clap_mel,
}
"""Name of a feature extractor -> features of (n,) samples."""

AXES: dict[str, tuple[int, int | None]] = {
    "whisper log mel": (1, 0),
    "waveform": (0, None),
    "clap mel": (1, 2),
}
"""Name of a feature extractor -> axes of time and of bins in its features."""
