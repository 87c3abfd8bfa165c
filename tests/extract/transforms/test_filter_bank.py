"""Filter banks equal those of reference implementations, for any rate and number of channels."""

import math
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from torchaudio.compliance import kaldi
from transformers import ASTFeatureExtractor

from epalm.errors import MediaError
from epalm.extract.decoding.decode_batch import DecodeRequest
from epalm.extract.decoding.decode_pool import load_batches
from epalm.extract.decoding.sample_loader import TwoStageLoader
from epalm.extract.transforms.filter_bank import (
    FilterBankLoader,
    draw_mask,
    mask_fingerprint,
    official_audio,
)
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.tasks.types import MediaItem

AST = official_audio(128, 1024)
SMALL = official_audio(32, 128)
LOG_EPSILON = math.log(torch.finfo(torch.float32).eps)


def noise(seconds: float, *, rate: int = 16_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(n, channels) float32."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((round(seconds * rate), channels)).astype(np.float32)


def tone(frequency: float, *, rate: int, seconds: float = 2.0) -> np.ndarray:
    """(n, 1) float32."""
    times = np.arange(round(seconds * rate)) / rate
    return np.sin(2 * np.pi * frequency * times).astype(np.float32)[:, None] / 2


def saved(path: Path, samples: np.ndarray, *, rate: int = 16_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def bank_of(path: Path, loader: FilterBankLoader | None = None, *, view: int = 0) -> torch.Tensor:
    return (loader or FilterBankLoader(AST))(MediaItem.from_path(path, path.stem, "audio"), view)


def normalized(bank: torch.Tensor) -> torch.Tensor:
    return (bank - AST.mean) / (2 * AST.std)


def centre_hz(mel_bin: int, bins: int) -> float:
    """Kaldi's mel scale between 20 and 8,000 Hz."""
    low, high = (1127 * math.log(1 + hz / 700) for hz in (20, 8000))
    return 700 * (math.exp((low + (high - low) * (mel_bin + 1) / (bins + 1)) / 1127) - 1)


def test_the_bank_is_kaldis_of_the_published_settings(tmp_path: Path) -> None:
    samples = noise(10.3)
    bank = bank_of(saved(tmp_path / "a.wav", samples))
    centred = torch.from_numpy(samples.T - samples.mean())
    expected = kaldi.fbank(
        centred,
        htk_compat=True,
        sample_frequency=16_000,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    assert bank.shape == (1024, 128)
    assert bank.dtype == torch.float32
    torch.testing.assert_close(bank, expected[:1024], rtol=0, atol=1e-3)


@pytest.mark.parametrize("seconds", [0.025, 1.0, 5.0, 10.255, 12.0])
def test_the_normalized_bank_is_that_of_hugging_faces_extractor(
    seconds: float, tmp_path: Path
) -> None:
    samples = noise(seconds)
    bank = normalized(bank_of(saved(tmp_path / "a.wav", samples)))
    extract = ASTFeatureExtractor()
    expected = extract(samples[:, 0], sampling_rate=16_000, return_tensors="pt").input_values[0]
    torch.testing.assert_close(bank, expected, rtol=0, atol=1e-3)


def test_a_constant_offset_of_the_audio_changes_nothing(tmp_path: Path) -> None:
    samples = noise(2.0)
    plain = bank_of(saved(tmp_path / "plain.wav", samples))
    lifted = bank_of(saved(tmp_path / "lifted.wav", samples + np.float32(0.3)))
    torch.testing.assert_close(normalized(lifted), normalized(plain), rtol=0, atol=1e-2)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_a_tone_ends_in_its_mel_bin_whatever_the_rate(rate: int, tmp_path: Path) -> None:
    bank = bank_of(saved(tmp_path / "a.wav", tone(1000, rate=rate), rate=rate))
    loudest = bank[:190].mean(dim=0).argmax().item()
    centres = [centre_hz(mel_bin, 128) for mel_bin in range(128)]
    assert loudest == np.abs(np.array(centres) - 1000).argmin()


@pytest.mark.parametrize("rate", [8_001, 11_127, 44_056, 44_099, 191_999])
def test_a_rate_without_a_common_divisor_is_converted_all_the_same(
    rate: int, tmp_path: Path
) -> None:
    odd = bank_of(saved(tmp_path / "odd.wav", tone(3000, rate=rate), rate=rate))
    assert torch.equal(
        odd[:190].mean(dim=0).argmax(),
        bank_of(saved(tmp_path / "own.wav", tone(3000, rate=16_000)))[:190].mean(dim=0).argmax(),
    )


def test_resampling_a_noise_gives_the_bank_of_the_noise(tmp_path: Path) -> None:
    slow = torch.from_numpy(noise(3.0).T)
    fast = torchaudio.functional.resample(slow, 16_000, 48_000).T.numpy()
    expected = normalized(bank_of(saved(tmp_path / "slow.wav", noise(3.0))))
    bank = normalized(bank_of(saved(tmp_path / "fast.wav", fast, rate=48_000)))
    below_7_khz = [mel_bin for mel_bin in range(128) if centre_hz(mel_bin, 128) < 7000]
    assert (bank - expected)[:, below_7_khz].abs().mean() < 0.01


def test_official_takes_the_first_channel_and_native_the_mean_of_all(tmp_path: Path) -> None:
    stereo = saved(tmp_path / "stereo.wav", noise(1.0, channels=2))
    first = saved(tmp_path / "first.wav", noise(1.0, channels=2)[:, :1])
    mean = saved(tmp_path / "mean.wav", noise(1.0, channels=2).mean(axis=1, keepdims=True))
    native = FilterBankLoader(replace(AST, name="native", channels="mean"))
    assert torch.equal(bank_of(stereo), bank_of(first))
    torch.testing.assert_close(bank_of(stereo, native), bank_of(mean), rtol=0, atol=1e-4)
    assert not torch.equal(bank_of(first), bank_of(mean))


def test_silence_is_the_smallest_number_and_what_is_missing_is_zero(tmp_path: Path) -> None:
    bank = bank_of(saved(tmp_path / "a.wav", np.zeros((16_000, 1), np.float32)))
    torch.testing.assert_close(bank[:98], torch.full((98, 128), LOG_EPSILON))
    assert torch.equal(bank[98:], torch.zeros(1024 - 98, 128))


def test_padding_and_masks_become_what_the_published_code_makes_of_them() -> None:
    assert normalized(torch.zeros(1)).item() == pytest.approx(0.467, abs=5e-4)


def test_what_follows_the_last_frame_is_never_seen(tmp_path: Path) -> None:
    samples = noise(12.0)
    louder = samples.copy()
    louder[16_000 * 11 :] *= 10
    bank = bank_of(saved(tmp_path / "a.wav", samples))
    assert torch.equal(bank_of(saved(tmp_path / "b.wav", louder)), bank)
    assert bank[-1].abs().min() > 0


def test_an_audio_clip_shorter_than_a_window_is_refused(tmp_path: Path) -> None:
    just = saved(tmp_path / "just.wav", noise(0.025))
    assert bank_of(just)[0].abs().min() > 0
    assert bank_of(just)[1:].abs().max() == 0
    short = saved(tmp_path / "short.wav", noise(0.025)[:-1])
    with pytest.raises(MediaError, match=r"^short\.wav: 24\.9 ms, at least 25 ms are needed$"):
        bank_of(short)


def test_values_beyond_any_filter_bank_are_refused(tmp_path: Path) -> None:
    loud = saved(tmp_path / "loud.wav", noise(1.0) * np.float32(1e25))
    with pytest.raises(MediaError, match=r"^loud\.wav: values up to .*e\+24, expected -1 to 1$"):
        bank_of(loud)


def masked(bank: torch.Tensor, plain: torch.Tensor) -> tuple[list[int], list[int]]:
    """The frames and the bins that are zero in the masked filter bank only."""
    assert (plain != 0).all()
    assert torch.equal(bank[bank != 0], plain[bank != 0])
    zero = bank == 0
    return (
        zero.all(dim=1).nonzero()[:, 0].tolist(),
        zero.all(dim=0).nonzero()[:, 0].tolist(),
    )


@pytest.mark.parametrize(
    ("preset", "widest", "longest"), [(AST, 24, 96), (SMALL, 6, 12), (official_audio(16, 64), 3, 6)]
)
def test_other_views_have_masked_bins_and_frames_of_the_published_fraction(
    preset: object, widest: int, longest: int, tmp_path: Path
) -> None:
    path = saved(tmp_path / "a.wav", noise(10.3))
    loader = FilterBankLoader(preset, AugmentedViews(count=60))
    plain = bank_of(path, loader)
    frames, bins = [], []
    for view in range(1, 60):
        stretch, band = masked(bank_of(path, loader, view=view), plain)
        assert stretch == list(range(stretch[0], stretch[0] + len(stretch))) if stretch else True
        assert band == list(range(band[0], band[0] + len(band))) if band else True
        frames.append(len(stretch))
        bins.append(len(band))
    assert max(frames) <= longest - 1 < 1.3 * max(frames) + 1
    assert max(bins) <= widest - 1 < 1.3 * max(bins) + 1
    assert min(frames) < longest / 4
    assert len(set(bins)) > 2


def test_a_view_depends_on_seed_key_and_number_alone(tmp_path: Path) -> None:
    samples = noise(10.3)
    path = saved(tmp_path / "a.wav", samples)
    other = saved(tmp_path / "b.wav", samples)
    few, many = (
        FilterBankLoader(AST, AugmentedViews(count=2)),
        FilterBankLoader(AST, AugmentedViews(count=5)),
    )
    view = bank_of(path, few, view=1)
    assert torch.equal(bank_of(path, many, view=1), view)
    assert torch.equal(pickle.loads(pickle.dumps(few))(MediaItem.from_path(path, "a"), 1), view)
    assert not torch.equal(bank_of(path, many, view=2), view)
    assert not torch.equal(bank_of(other, few, view=1), view)
    assert torch.equal(bank_of(other, few), bank_of(path, many))
    reseeded = FilterBankLoader(AST, AugmentedViews(count=2, seed=1))
    assert not torch.equal(bank_of(path, reseeded, view=1), view)
    no_flip = FilterBankLoader(AST, AugmentedViews(count=2, augmentation="no-flip"))
    assert torch.equal(bank_of(path, no_flip, view=1), view)


def test_masking_does_not_change_the_cached_filter_bank(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.wav", noise(10.3))
    loader = FilterBankLoader(AST, AugmentedViews(count=3))
    bank_of(path, loader, view=1).zero_()
    bank_of(path, loader, view=2)
    assert torch.equal(bank_of(path, loader), bank_of(path))


def test_a_view_that_was_not_planned_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.wav", noise(0.1))
    for view in (-1, 1):
        with pytest.raises(ValueError, match=rf"there is no view {view}, only views 0\.\.0"):
            bank_of(path, view=view)


class Scripted:
    """A random generator with given draws."""

    def __init__(self, *draws: float) -> None:
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)


def test_a_mask_lies_where_torchaudio_would_put_it(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(0)
    for _ in range(200):
        draws = dice.random(), dice.random()
        rest = [torch.tensor([draw], dtype=torch.float64) for draw in draws]
        monkeypatch.setattr(torch, "rand", lambda _count, rest=rest: rest.pop(0))
        expected = torchaudio.functional.mask_along_axis(torch.ones(1, 128, 5), 24, 0.0, 1)
        start, stop = draw_mask(128, 24, Scripted(*draws))
        zeros = (expected[0, :, 0] == 0).nonzero()[:, 0].tolist()
        assert zeros == list(range(start, stop))


@pytest.mark.slow
def test_worker_processes_give_the_same_banks_in_any_order(tmp_path: Path) -> None:
    paths = [saved(tmp_path / f"{seed}.wav", noise(1.3, seed=seed)) for seed in range(6)]
    items = [MediaItem.from_path(path, path.stem, "audio") for path in paths]
    loader = FilterBankLoader(SMALL, AugmentedViews(count=2))
    every = [DecodeRequest(row, view, item) for row, item in enumerate(items) for view in range(2)]
    expected = {(one.row, one.view): loader(one.item, one.view) for one in every}
    random.Random(0).shuffle(every)
    batches = [every[:5], every[5:7], every[7:]]
    banks = {}
    for batch in load_batches(batches, loader, workers=2):
        assert batch.errors == {}
        banks |= dict(zip(zip(batch.rows, batch.views, strict=True), batch.inputs, strict=True))
    assert banks.keys() == expected.keys()
    assert all(np.array_equal(banks[place], expected[place]) for place in expected)


def test_the_loader_shows_its_steps_and_travels_light(tmp_path: Path) -> None:
    loader = FilterBankLoader(AST, AugmentedViews(count=2))
    assert isinstance(loader, TwoStageLoader)
    bank_of(saved(tmp_path / "a.wav", noise(10.3)), loader)
    assert len(pickle.dumps(loader)) < 500
    assert pickle.loads(pickle.dumps(loader)) == loader


def test_the_fingerprint_names_all_that_changes_a_bank() -> None:
    found = FilterBankLoader(AST, AugmentedViews(count=2, seed=3)).fingerprint()
    assert found["preprocessing.mean"] == "-4.2677393"
    assert found["preprocessing.channels"] == "first"
    assert found["preprocessing.frames"] == "1024"
    assert found["views.seed"] == "3"
    assert found["views.masked_bins"] == "24 of 128"
    assert mask_fingerprint(AugmentedViews()) == {}
    other = FilterBankLoader(replace(AST, std=1.0), AugmentedViews(count=2, seed=3)).fingerprint()
    assert {name for name in found if found[name] != other[name]} == {"preprocessing.std"}
