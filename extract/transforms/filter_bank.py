"""From a recording's file to the filter bank an encoder takes: one channel, 16 kHz, log mel bins.

View 0 is the whole recording. Every other view has a band of bins and a stretch of time masked, as
the published code masks them anew in every epoch, drawn from (seed, view, key) alone.
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
"""What AST was trained on, Hz. The published code takes the rate of each file as it is."""

AUDIOSET_MEAN, AUDIOSET_STD = -4.2677393, 4.5689974
"""Of the filter bank's values over AudioSet (published)."""

WINDOW_MS, SHIFT_MS = 25, 10
"""Length of a frame, and from one to the next (published)."""

FILTER_BANK = f"kaldi, hanning, {WINDOW_MS} ms every {SHIFT_MS} ms, mean removed"
"""The constants in one line, for the fingerprint of a store."""

MASKED_BINS, OF_BINS = 24, 128
"""A mask over bins is narrower than this, of so many (published) ..."""

MASKED_FRAMES, OF_FRAMES = 96, 1024
"""... and one over frames likewise (published); encoders of other sizes mask the same share."""

MASK_VALUE = 0.0
"""Published; it stands before normalisation, as padding does, and is not the mean after it."""

LEAST_COMMON_HZ, RATE_STEP = 10, 25
"""A rate that has no common divisor of 10 Hz with ours counts as the nearest multiple of 25 Hz, for
the kernel of an exact conversion would take gigabytes. At 44 kHz that moves a tone by 0.03 %."""

_WINDOW = SAMPLE_RATE * WINDOW_MS // 1000
_SHIFT = SAMPLE_RATE * SHIFT_MS // 1000

_MARGIN_SECONDS = 0.02
"""Read beyond the last frame, so that resampling sees the file go on where it does."""


@dataclass(frozen=True)
class AudioPreset:
    """How a recording becomes the encoder's input; every field changes the vectors.

    Attributes:
        name: "official" or "native".
        mel_bins: of each frame.
        frames: 10 ms each; a shorter recording is padded with zeros, a longer one cut.
        mean: the encoder subtracts it on its own device, ...
        std: ... and divides by twice this.
        channels: "first" takes channel 0, "mean" the mean of all.
        sample_rate: after resampling, Hz.
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
    """Channel 0 and AudioSet's constants: the published front end, save that it resamples."""
    return AudioPreset("official", mel_bins, frames, AUDIOSET_MEAN, AUDIOSET_STD, "first")


@dataclass(frozen=True)
class FilterBankLoader:
    """Decodes one recording, or the sound track of a clip, and makes one view of it.

    The views of a recording are asked for one after the other, so the last filter bank is kept: it
    is made once for all of them.

    Attributes:
        preset: the encoder's input.
        views: their number and seed; how photos are augmented is nothing to recordings.
    """

    preset: AudioPreset
    views: AugmentedViews = ONE_VIEW
    _last: LastItemCache[Tensor] = field(default_factory=LastItemCache, compare=False, repr=False)

    def __call__(self, item: MediaItem, view: int) -> Tensor:
        """(frames, mel_bins) float32; see `decode` and `transform`."""
        return self.transform(self._last.get(item, self.decode), item, view=view)

    def fingerprint(self) -> dict[str, str]:
        """All that decides what becomes of a recording."""
        return {
            "decode": AUDIO_POLICY,
            "filter_bank": FILTER_BANK,
            **self.preset.fingerprint(),
            **mask_fingerprint(self.views),
        }

    def decode(self, item: MediaItem) -> Tensor:
        """(frames, mel_bins) float32, padded or cut, unmasked, before normalisation.

        Raises:
            MediaError: the recording cannot be decoded, is shorter than one window, or has values
                beyond what a filter bank can be made of.
        """
        last = _WINDOW + _SHIFT * (self.preset.frames - 1)
        sound = decode_audio(item.path, seconds=last / SAMPLE_RATE + _MARGIN_SECONDS)
        samples = resampled(sound, self.preset.channels)[:last]
        if len(samples) < _WINDOW:
            seconds = sound.samples.shape[1] / sound.rate
            raise MediaError(
                f"{item.path.name}: {1000 * seconds:.1f} ms, at least {WINDOW_MS} ms are needed"
            )
        bank = filter_bank(samples, self.preset.mel_bins)
        if not bank.isfinite().all():
            loudest = np.abs(sound.samples).max()
            raise MediaError(f"{item.path.name}: values up to {loudest:.3g}, wanted are -1 to 1")
        return torch.nn.functional.pad(bank, (0, 0, 0, self.preset.frames - len(bank)))

    def transform(self, bank: Tensor, item: MediaItem, *, view: int) -> Tensor:
        """(frames, mel_bins) float32; normalisation follows on the encoder's device.

        Raises:
            ValueError: a view that was not planned.
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
    """All that changes a drawn view of a recording, named `views.*`; nothing if there is none."""
    if views.count == 1:
        return {}
    return {
        "views.seed": str(views.seed),
        "views.generator": "PCG64 of BLAKE2b-128 of seed, view, key",
        "views.masked_bins": f"{MASKED_BINS} of {OF_BINS}",
        "views.masked_frames": f"{MASKED_FRAMES} of {OF_FRAMES}",
        "views.mask_value": f"{MASK_VALUE:g}",
    }


def resampled(sound: AudioClip, channels: str) -> Tensor:
    """(n,) float32: one channel, or the mean of all, at 16 kHz, its mean removed."""
    one = sound.samples[0] if channels == "first" else sound.samples.mean(axis=0)
    centred = torch.from_numpy(one - one.mean(dtype=np.float64).astype(np.float32))
    rate = sound.rate
    if math.gcd(rate, SAMPLE_RATE) < LEAST_COMMON_HZ:
        rate = round(rate / RATE_STEP) * RATE_STEP
    samples: Tensor = torchaudio.functional.resample(centred, rate, SAMPLE_RATE)
    return samples


def filter_bank(samples: Tensor, mel_bins: int) -> Tensor:
    """The logarithm of each mel bin's power (published settings).

    Args:
        samples: (n,) at 16 kHz, at least one window.
        mel_bins: number of bins, from 20 to 8,000 Hz.

    Returns:
        (frames, mel_bins) float32: whole windows only.
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


def draw_mask(size: int, most: float, generator: np.random.Generator) -> tuple[int, int]:
    """Start and stop of a mask over `size` cells, narrower than `most`, as torchaudio draws it."""
    width = generator.random() * most
    start = int(generator.random() * (size - width))
    return start, start + int(width)
