"""Every supported audio format decodes to the requested first seconds, and no more is read."""

import os
import resource
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epalm.extract.transforms.filter_bank import FilterBankLoader, official_audio
from epalm.media import audio_decode
from epalm.media.audio_decode import AudioClip, decode_audio
from epalm.tasks.types import MediaItem
from tests.extract.helpers import SHARED
from tests.media.file_writers.av_files import noise, random_frames, write_media
from tests.media.file_writers.mp4_boxes import set_edit_list


def decoded(path: Path, *, seconds: float = 10.0) -> AudioClip:
    clip = decode_audio(path, seconds=seconds)
    assert clip.samples.dtype == np.float32
    return clip


def max_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The maximum correlation of two signals over shifts of up to 3,000 samples."""
    first, second = first[3000:30_000], second[3000:30_000]
    size = 1 << 16
    product = np.fft.irfft(np.fft.rfft(first, size) * np.fft.rfft(second, size).conj())
    shifts = np.concatenate([product[:3000], product[-3000:]])
    return float(shifts.max() / np.linalg.norm(first) / np.linalg.norm(second))


def band_pass(samples: np.ndarray) -> np.ndarray:
    """Keep 300 to 3,000 Hz of one second of audio, which every codec preserves."""
    tones = np.fft.rfft(samples)
    tones[:300] = tones[3000:] = 0
    return np.fft.irfft(tones).astype(np.float32)


@pytest.mark.parametrize(
    ("suffix", "subtype", "error"),
    [
        ("wav", "PCM_U8", 2**-7),
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "PCM_32", 1e-7),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("wav", "ULAW", 0.02),
        ("flac", "PCM_16", 2**-15),
        ("flac", "PCM_24", 2**-23),
        ("aiff", "PCM_16", 2**-15),
        ("aiff", "FLOAT", 0),
        ("au", "PCM_16", 2**-15),
        ("caf", "PCM_24", 2**-23),
        ("w64", "PCM_16", 2**-15),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_formats_round_trip(
    suffix: str, subtype: str, error: float, channels: int, tmp_path: Path
) -> None:
    samples = noise(0.3, channels=channels)
    soundfile.write(tmp_path / f"a.{suffix}", samples, 44_100, subtype=subtype)
    clip = decoded(tmp_path / f"a.{suffix}")
    assert clip.rate == 44_100
    assert clip.samples.shape == (channels, len(samples))
    assert np.abs(clip.samples - samples.T).max() <= error


@pytest.mark.parametrize("suffix", ["mov", "mkv", "flac", "wav"])
def test_ffmpeg_decodes_lossless_audio_exactly(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_decode, "SNDFILE_MAGIC", ())
    samples = noise(0.3)
    clip = decoded(write_media(tmp_path / f"a.{suffix}", sound=samples))
    assert clip.samples.shape == (2, len(samples))
    assert np.abs(clip.samples - samples.T).max() <= 2**-15


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_f64le", "pcm_mulaw"])
def test_ffmpeg_scales_every_bit_depth(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "a.wav", sound=noise(0.3, rate=8000), rate=8000, codec=codec)
    expected = decoded(path).samples
    monkeypatch.setattr(audio_decode, "SNDFILE_MAGIC", ())
    assert np.abs(decoded(path).samples - expected).max() <= 1e-7
    assert 0.09 < expected.std() < 0.11


@pytest.mark.parametrize(
    "suffix", ["mp3", "ogg", "opus", "m4a", "aac", "mp4", "webm", "avi", "mpg", "flv", "ts"]
)
def test_lossy_formats_correlate_with_the_source(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix in ("opus", "webm") else 44_100
    samples = np.repeat(band_pass(noise(1.0, rate=rate, channels=1)[:, 0])[:, None], 2, axis=1)
    path = tmp_path / f"a.{suffix}"
    if suffix == "ogg":
        soundfile.write(path, samples, rate)
    else:
        write_media(path, sound=samples, rate=rate)
    clip = decoded(path)
    assert clip.rate == rate
    assert clip.samples.shape[0] == 2
    assert abs(clip.samples.shape[1] - rate) < 3000
    assert max_correlation(clip.samples[0], samples[:, 0]) > 0.85


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "mpg"])
def test_the_audio_track_of_a_video_is_decoded(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix == "webm" else 44_100
    path = tmp_path / f"a.{suffix}"
    write_media(path, sound=noise(1.0, rate=rate), rate=rate, frames=random_frames(10))
    clip = decoded(path)
    assert (clip.rate, len(clip.samples)) == (rate, 2)
    assert abs(clip.samples.shape[1] - rate) < 3000
    assert 0.05 < clip.samples.std() < 0.15


def test_an_audio_track_much_shorter_than_the_video_is_decoded(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "avi"):
        path = write_media(tmp_path / f"a.{suffix}", sound=noise(0.5), frames=random_frames(40))
        assert abs(decoded(path).samples.shape[1] - 22_050) < 3000


def test_the_content_of_a_file_decides_and_not_its_extension(tmp_path: Path) -> None:
    samples = noise(0.2)
    soundfile.write(tmp_path / "a.flac", samples, 44_100)
    write_media(tmp_path / "b.mp4", sound=samples)
    for name in ("a.flac", "b.mp4"):
        expected = decoded(tmp_path / name)
        for ending in (".wav", ".raw", ".mp3", ".avi", ""):
            renamed = (tmp_path / f"other{ending}").absolute()
            renamed.write_bytes((tmp_path / name).read_bytes())
            assert np.array_equal(decoded(renamed).samples, expected.samples)


def test_unusual_file_names_are_decoded(tmp_path: Path) -> None:
    for name in ("with space.wav", "http:x.wav", "%d.wav", "ähm.wav", os.fsdecode(b"\xff.wav")):
        soundfile.write(tmp_path / "a.wav", noise(0.1), 44_100)
        (tmp_path / "a.wav").rename(tmp_path / name)
        assert decoded(tmp_path / name).samples.shape == (2, 4410)
        write_media(tmp_path / "a.mp4", sound=noise(0.1)).rename(tmp_path / name)
        assert decoded(tmp_path / name).samples.shape[0] == 2


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "mkv", "mp4"])
def test_only_the_requested_duration_is_decoded(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix in ("wav", "flac", "ogg"):
        soundfile.write(path, noise(3.0), 44_100)
    else:
        write_media(path, sound=noise(3.0))
    whole = decoded(path)
    assert abs(whole.samples.shape[1] - 3 * 44_100) < 3000
    part = decoded(path, seconds=0.5)
    assert np.array_equal(part.samples, whole.samples[:, :22_050])


def long_wav(path: Path, *, hours: float) -> Path:
    """Write a sparse file of silence."""
    with path.open("wb") as file, wave.open(file) as clip:
        clip.setparams((2, 2, 44_100, 0, "NONE", ""))
        clip.writeframes(b"")
    count = round(hours * 3600 * 44_100) * 4
    header = bytearray(path.read_bytes())
    header[4:8] = (count + 36).to_bytes(4, "little")
    header[40:44] = count.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + count)
    return path


def peak_bytes() -> int:
    """Peak memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_ten_seconds_of_a_three_hour_file_need_little_memory(tmp_path: Path) -> None:
    path = long_wav(tmp_path / "long.wav", hours=3)
    before = peak_bytes()
    assert decoded(path).samples.shape == (2, 441_000)
    assert peak_bytes() - before < 50_000_000


@pytest.mark.parametrize(
    ("folder", "count"),
    [("audiocaps_clips", 12), pytest.param("esc10/audio", 320, marks=pytest.mark.slow)],
)
def test_every_real_audio_clip_and_audio_track_is_decoded_to_a_filter_bank(
    folder: str, count: int
) -> None:
    if not (SHARED / "data" / folder).is_dir():
        pytest.skip(f"needs {folder} in ../shared/data")
    load = FilterBankLoader(official_audio(128, 1024))
    paths = [path for path in (SHARED / "data" / folder).iterdir() if path.suffix != ".jsonl"]
    assert len(paths) == count
    for path in paths:
        clip = decode_audio(path, seconds=10.3)
        bank = load(MediaItem.from_path(path, path.stem, "audio"), 0)
        seconds = clip.samples.shape[1] / clip.rate
        windows = int((seconds - 0.025) * 100) + 1
        assert abs(int((bank != 0).any(dim=1).sum()) - min(1024, windows)) <= 1
        if path.suffix in (".wav", ".ogg"):
            expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
            assert rate == clip.rate
            assert np.array_equal(clip.samples, expected.T)


def test_an_edit_list_hides_the_audio_outside_it(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", sound=noise(6.0))
    whole = decoded(path)
    set_edit_list(path, [(20, 40)])
    heard = decoded(path)
    assert heard.samples.shape[1] == pytest.approx(2 * heard.rate, abs=2048)
    assert max_correlation(whole.samples[0, 4 * whole.rate :], heard.samples[0]) > 0.95
