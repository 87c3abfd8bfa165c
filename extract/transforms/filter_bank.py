"""Audio clips as encoder inputs: one channel, 16 kHz, a filter bank of log mel bins.

View 0 is the unmasked clip. Every other view has a band of bins and a range of frames masked,
seeded by (seed, view, key); the published code masks them anew in every epoch.
"""

import math
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torchaudio.functional
from torch import Tensor
from torchaudio.compliance import kaldi

from epalm.errors import MediaError
from epalm.extract.transforms.image_augment import ONE_VIEW, AugmentedViews, generator_for
from epalm.extract.transforms.last_item_cache import LastItemCache
from epalm.media.audio_decode import AUDIO_POLICY, AudioClip, decode_audio
from epalm.tasks.types import MediaItem

SAMPLE_RATE = 16_000
"""Sampling rate that AST was trained on, Hz. The published code does not resample."""

AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974
"""Mean and standard deviation of the filter bank over AudioSet (published)."""

WINDOW_MS, SHIFT_MS = 25, 10
"""Length of a frame, and distance between frames, milliseconds (published)."""

FILTER_BANK = f"kaldi, hanning, {WINDOW_MS} ms every {SHIFT_MS} ms, mean removed"
"""The constants in one line, for the fingerprint of a store."""

MASKED_BINS, OF_BINS = 24, 128
"""A mask over bins is narrower than 24 of 128 bins (published)."""

MASKED_FRAMES, OF_FRAMES = 96, 1024
"""A mask over frames is narrower than 96 of 1024 frames (published). Encoders of other sizes mask
the same fractions."""

MASK_VALUE = 0.0
"""Value of masked cells before normalization, as of padding (published); it is not the mean."""

LEAST_COMMON_HZ, RATE_STEP = 10, 25
"""A rate whose greatest common divisor with 16 kHz is below 10 Hz is rounded to a multiple of
25 Hz, since the kernel of an exact conversion would take gigabytes. At 44 kHz this shifts pitch by
0.03 %."""

_WINDOW = SAMPLE_RATE * WINDOW_MS // 1000
_SHIFT = SAMPLE_RATE * SHIFT_MS // 1000

_MARGIN_SECONDS = 0.02
"""Time read beyond the last frame, so that resampling has no edge there, seconds."""


@dataclass(frozen=True)
class AudioPreset:
    """How an audio clip becomes the encoder's input; every field changes the features.

    Attributes:
        name: "official" or "native".
        mel_bins: number of mel bins per frame.
        frames: number of frames of 10 ms; shorter clips are padded with zeros, longer ones cut.
        mean: mean that the encoder subtracts on its device.
        std: standard deviation; the encoder divides by twice this value.
        channels: "first" for channel 0, "mean" for the mean of all channels.
        sample_rate: sampling rate after resampling, Hz.
    """

    name: str
    mel_bins: int
    frames: int
    mean: float
    std: float
    channels: str
    sample_rate: int = SAMPLE_RATE

    def fingerprint(self) -> dict[str, str]:
        """Each field as text, named `preprocessing.<field>`."""
        return {f"preprocessing.{name}": str(value) for name, value in asdict(self).items()}


def official_audio(mel_bins: int, frames: int) -> AudioPreset:
    """The published preprocessing, with resampling: channel 0 and the constants of AudioSet."""
    return AudioPreset("official", mel_bins, frames, AUDIOSET_MEAN, AUDIOSET_STD, "first")


@dataclass(frozen=True)
class FilterBankLoader:
    """Decodes an audio clip, or the audio track of a video, and makes one view of it.

    The views of a clip are requested one after the other. The last filter bank is cached, so that
    it is computed once for all views.

    Attributes:
        preset: settings of the encoder's input.
        views: number and seed of the views; the augmentation of images does not apply.
    """

    preset: AudioPreset
    views: AugmentedViews = ONE_VIEW
    _last: LastItemCache[Tensor] = field(default_factory=LastItemCache, compare=False, repr=False)

    def __call__(self, item: MediaItem, view: int) -> Tensor:
        """(frames, mel_bins) float32; see `decode` and `transform`."""
        return self.transform(self._last.get(item, self.decode), item, view=view)

    def fingerprint(self) -> dict[str, str]:
        """Every setting of decoding, preprocessing and augmentation, as text."""
        return {
            "decode": AUDIO_POLICY,
            "filter_bank": FILTER_BANK,
            **self.preset.fingerprint(),
            **mask_fingerprint(self.views),
        }

    def decode(self, item: MediaItem) -> Tensor:
        """Compute the filter bank: (frames, mel_bins) float32, padded or cut, not normalized.

        Raises:
            MediaError: the audio clip cannot be decoded, is shorter than one window, or has values
                that are too large.
        """
        last = _WINDOW + _SHIFT * (self.preset.frames - 1)
        clip = decode_audio(item.path, seconds=last / SAMPLE_RATE + _MARGIN_SECONDS)
        samples = resample(clip, self.preset.channels)[:last]
        if len(samples) < _WINDOW:
            seconds = clip.samples.shape[1] / clip.rate
            raise MediaError(
                f"{item.path.name}: {1000 * seconds:.1f} ms, at least {WINDOW_MS} ms are needed"
            )
        bank = filter_bank(samples, self.preset.mel_bins)
        if not bank.isfinite().all():
            loudest = np.abs(clip.samples).max()
            raise MediaError(f"{item.path.name}: values up to {loudest:.3g}, expected -1 to 1")
        return torch.nn.functional.pad(bank, (0, 0, 0, self.preset.frames - len(bank)))

    def transform(self, bank: Tensor, item: MediaItem, *, view: int) -> Tensor:
        """Make a view, (frames, mel_bins) float32; the encoder normalizes it on its device.

        Raises:
            ValueError: there is no such view.
        """
        self.views.check(view)
        masked = bank.clone()
        if view > 0:
            generator = generator_for(self.views.seed, item.key, view)
            frames, bins = bank.shape
            low, high = draw_mask(bins, MASKED_BINS * bins / OF_BINS, generator)
            masked[:, low:high] = MASK_VALUE
            start, stop = draw_mask(frames, MASKED_FRAMES * frames / OF_FRAMES, generator)
            masked[start:stop] = MASK_VALUE
        return masked


def mask_fingerprint(views: AugmentedViews) -> dict[str, str]:
    """Every setting of the masked views, named `views.*`; {} if there are none."""
    if views.count == 1:
        return {}
    return {
        "views.seed": str(views.seed),
        "views.generator": "PCG64 of BLAKE2b-128 of seed, view, key",
        "views.masked_bins": f"{MASKED_BINS} of {OF_BINS}",
        "views.masked_frames": f"{MASKED_FRAMES} of {OF_FRAMES}",
        "views.mask_value": f"{MASK_VALUE:g}",
    }


def resample(clip: AudioClip, channels: str) -> Tensor:
    """Convert to one channel at 16 kHz and subtract the mean: (n,) float32."""
    channel = clip.samples[0] if channels == "first" else clip.samples.mean(axis=0)
    centered = torch.from_numpy(channel - channel.mean(dtype=np.float64).astype(np.float32))
    return change_rate(centered, clip.rate, SAMPLE_RATE)


def change_rate(samples: Tensor, rate: int, target: int) -> Tensor:
    """Resample (n,) float32 from one sampling rate to another, both in Hz."""
    if math.gcd(rate, target) < LEAST_COMMON_HZ:
        rate = round(rate / RATE_STEP) * RATE_STEP
    resampled: Tensor = torchaudio.functional.resample(samples, rate, target)
    return resampled


def filter_bank(samples: Tensor, mel_bins: int) -> Tensor:
    """Compute log mel power with the published settings.

    Args:
        samples: (n,) samples at 16 kHz, at least one window.
        mel_bins: number of mel bins between 20 and 8,000 Hz.

    Returns:
        (frames, mel_bins) float32 of complete windows.
    """
    bank: Tensor = kaldi.fbank(
        samples[None],
        htk_compat=True,
        sample_frequency=SAMPLE_RATE,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=mel_bins,
        dither=0.0,
        frame_length=WINDOW_MS,
        frame_shift=SHIFT_MS,
    )
    return bank


def draw_mask(size: int, max_width: float, generator: np.random.Generator) -> tuple[int, int]:
    """Draw start and stop of a mask over `size` cells, as torchaudio does."""
    width = generator.random() * max_width
    start = int(generator.random() * (size - width))
    return start, start + int(width)
