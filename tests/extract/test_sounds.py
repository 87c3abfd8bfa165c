"""Whatever a recording's file holds comes out as its first seconds, or as one reason."""

import os
import resource
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epalm.errors import MediaError
from epalm.extract import sounds
from epalm.extract.filter_bank import FilterBankLoader, official_audio
from epalm.extract.sounds import Sound, decode_sound
from epalm.tasks.records import MediaItem
from tests.extract.containers import noise, pictures, write
from tests.extract.helpers import SHARED


def decoded(path: Path, *, seconds: float = 10.0) -> Sound:
    sound = decode_sound(path, seconds=seconds)
    assert sound.samples.dtype == np.float32
    return sound


def reason(path: Path, *, seconds: float = 10.0) -> str:
    with pytest.raises(MediaError) as refused:
        decode_sound(path, seconds=seconds)
    message = str(refused.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    assert str(path.parent) not in message
    return message.removeprefix(f"{path.name}: ")


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """The largest correlation of two signals over shifts of up to 3,000 samples."""
    one, other = one[3000:30_000], other[3000:30_000]
    size = 1 << 16
    product = np.fft.irfft(np.fft.rfft(one, size) * np.fft.rfft(other, size).conj())
    shifts = np.concatenate([product[:3000], product[-3000:]])
    return float(shifts.max() / np.linalg.norm(one) / np.linalg.norm(other))


def band(samples: np.ndarray) -> np.ndarray:
    """One second's tones from 300 to 3,000 Hz, which no codec throws away."""
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
def test_lossless_formats_come_out_as_they_went_in(
    suffix: str, subtype: str, error: float, channels: int, tmp_path: Path
) -> None:
    samples = noise(0.3, channels=channels)
    soundfile.write(tmp_path / f"a.{suffix}", samples, 44_100, subtype=subtype)
    sound = decoded(tmp_path / f"a.{suffix}")
    assert sound.rate == 44_100
    assert sound.samples.shape == (channels, len(samples))
    assert np.abs(sound.samples - samples.T).max() <= error


@pytest.mark.parametrize("suffix", ["mov", "mkv", "flac", "wav"])
def test_ffmpeg_reads_lossless_sound_exactly(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sounds, "SNDFILE_HEADS", ())
    samples = noise(0.3)
    sound = decoded(write(tmp_path / f"a.{suffix}", sound=samples))
    assert sound.samples.shape == (2, len(samples))
    assert np.abs(sound.samples - samples.T).max() <= 2**-15


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_f64le", "pcm_mulaw"])
def test_ffmpeg_scales_every_depth(
    codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav", sound=noise(0.3, rate=8000), rate=8000, codec=codec)
    expected = decoded(path).samples
    monkeypatch.setattr(sounds, "SNDFILE_HEADS", ())
    assert np.abs(decoded(path).samples - expected).max() <= 1e-7
    assert 0.09 < expected.std() < 0.11


@pytest.mark.parametrize(
    "suffix", ["mp3", "ogg", "opus", "m4a", "aac", "mp4", "webm", "avi", "mpg", "flv", "ts"]
)
def test_lossy_formats_come_out_alike(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix in ("opus", "webm") else 44_100
    samples = np.repeat(band(noise(1.0, rate=rate, channels=1)[:, 0])[:, None], 2, axis=1)
    path = tmp_path / f"a.{suffix}"
    if suffix == "ogg":
        soundfile.write(path, samples, rate)
    else:
        write(path, sound=samples, rate=rate)
    sound = decoded(path)
    assert sound.rate == rate
    assert sound.samples.shape[0] == 2
    assert abs(sound.samples.shape[1] - rate) < 3000
    assert likeness(sound.samples[0], samples[:, 0]) > 0.85


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "avi", "mpg"])
def test_the_sound_track_of_a_clip_is_read(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix == "webm" else 44_100
    path = tmp_path / f"a.{suffix}"
    write(path, sound=noise(1.0, rate=rate), rate=rate, frames=pictures(10))
    sound = decoded(path)
    assert (sound.rate, len(sound.samples)) == (rate, 2)
    assert abs(sound.samples.shape[1] - rate) < 3000
    assert 0.05 < sound.samples.std() < 0.15


def test_a_sound_track_much_shorter_than_the_pictures_is_read(tmp_path: Path) -> None:
    for suffix in ("mp4", "mkv", "avi"):
        path = write(tmp_path / f"a.{suffix}", sound=noise(0.5), frames=pictures(40))
        assert abs(decoded(path).samples.shape[1] - 22_050) < 3000


def test_what_the_file_holds_counts_and_not_its_ending(tmp_path: Path) -> None:
    samples = noise(0.2)
    soundfile.write(tmp_path / "a.flac", samples, 44_100)
    write(tmp_path / "b.mp4", sound=samples)
    for name in ("a.flac", "b.mp4"):
        expected = decoded(tmp_path / name)
        for ending in (".wav", ".raw", ".mp3", ".avi", ""):
            renamed = (tmp_path / f"other{ending}").absolute()
            renamed.write_bytes((tmp_path / name).read_bytes())
            assert np.array_equal(decoded(renamed).samples, expected.samples)


def test_names_that_programs_stumble_over_are_read(tmp_path: Path) -> None:
    for name in ("with space.wav", "http:x.wav", "%d.wav", "ähm.wav", os.fsdecode(b"\xff.wav")):
        soundfile.write(tmp_path / "a.wav", noise(0.1), 44_100)
        (tmp_path / "a.wav").rename(tmp_path / name)
        assert decoded(tmp_path / name).samples.shape == (2, 4410)
        write(tmp_path / "a.mp4", sound=noise(0.1)).rename(tmp_path / name)
        assert decoded(tmp_path / name).samples.shape[0] == 2


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "mkv", "mp4"])
def test_no_more_is_decoded_than_is_asked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    if suffix in ("wav", "flac", "ogg"):
        soundfile.write(path, noise(3.0), 44_100)
    else:
        write(path, sound=noise(3.0))
    whole = decoded(path)
    assert abs(whole.samples.shape[1] - 3 * 44_100) < 3000
    part = decoded(path, seconds=0.5)
    assert np.array_equal(part.samples, whole.samples[:, :22_050])


def long_wav(path: Path, *, hours: float) -> Path:
    """Silence, without a byte on the disk."""
    with path.open("wb") as file, wave.open(file) as sound:
        sound.setparams((2, 2, 44_100, 0, "NONE", ""))
        sound.writeframes(b"")
    count = round(hours * 3600 * 44_100) * 4
    header = bytearray(path.read_bytes())
    header[4:8] = (count + 36).to_bytes(4, "little")
    header[40:44] = count.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + count)
    return path


def peak_bytes() -> int:
    """The most memory that this process has had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_three_hours_cost_no_more_than_ten_seconds(tmp_path: Path) -> None:
    path = long_wav(tmp_path / "long.wav", hours=3)
    before = peak_bytes()
    assert decoded(path).samples.shape == (2, 441_000)
    assert peak_bytes() - before < 50_000_000


def test_what_is_no_sound_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_bytes(b"this is no sound, " * 9)
    (tmp_path / "zeros.mp3").write_bytes(bytes(5000))
    (tmp_path / "list.wav").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n")
    (tmp_path / "page.wav").write_bytes(b"<html><body>404 not found</body></html>")
    for name in ("text.wav", "zeros.mp3", "list.wav", "page.wav"):
        assert reason(tmp_path / name).startswith("neither sound nor clip, or its header is dam")


def test_a_playlist_leads_nowhere(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", noise(0.1), 44_100)
    (tmp_path / "a.wav").write_text("ffconcat version 1.0\nfile secret.wav\n")
    assert "neither sound nor clip" in reason(tmp_path / "a.wav")


def test_a_clip_without_sound_says_so(tmp_path: Path) -> None:
    for suffix in ("mp4", "avi", "webm", "gif"):
        path = write(tmp_path / f"a.{suffix}", frames=pictures(5))
        assert reason(path) == "there is no sound track"


def test_a_file_that_must_not_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone.wav")
    assert reason(tmp_path / "empty.wav") == "the file is empty"
    assert reason(tmp_path / "pipe.wav") == "not a file"
    assert reason(tmp_path) == "not a file"
    assert reason(tmp_path / "dangling.wav") == "no such file"


def test_a_file_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.1), 44_100)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert reason(tmp_path / "a.wav") == "Permission denied"


def test_a_recording_without_samples_says_so(tmp_path: Path) -> None:
    for suffix in ("wav", "aiff", "au", "w64"):
        soundfile.write(tmp_path / f"a.{suffix}", np.zeros((0, 2), np.float32), 44_100)
        found = reason(tmp_path / f"a.{suffix}")
        assert found.startswith(
            ("there is no sample that can be", "neither sound nor clip, or its")
        )


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_counted_and_located(
    strange: float, tmp_path: Path
) -> None:
    samples = noise(2.0)
    samples[44_100:44_103, 1] = strange
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    assert reason(tmp_path / "a.wav") == "3 samples are no numbers, the first at 1.000 s"
    assert decoded(tmp_path / "a.wav", seconds=0.9).samples.shape == (2, 39_690)


def test_doubles_beyond_single_precision_are_no_numbers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(9, 1e300), 44_100, subtype="DOUBLE")
    assert reason(tmp_path / "a.wav") == "9 samples are no numbers, the first at 0.000 s"


def wav_header(path: Path, *, rate: int = 44_100, channels: int = 2) -> Path:
    """A WAV file of zeros whose header has any rate and number of channels."""
    soundfile.write(path, np.zeros((4096, 2), np.int16), 44_100)
    content = bytearray(path.read_bytes())
    content[22:24] = channels.to_bytes(2, "little")
    content[24:28] = rate.to_bytes(4, "little")
    content[28:32] = (rate * channels * 2 % 2**32).to_bytes(4, "little")
    content[32:34] = (channels * 2 % 2**16).to_bytes(2, "little")
    path.write_bytes(content)
    return path


def test_absurd_rates_and_channels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    assert "3 samples a second, accepted are 1000 to" in reason(wav_header(path, rate=3))
    assert "samples a second, accepted are" in reason(wav_header(path, rate=2_000_000_000))
    assert reason(wav_header(path, channels=900)) == "900 channels, accepted are 1 to 64"
    assert "64 channels of 768000 samples a second exceed 60000000 values in 10 s" in reason(
        wav_header(path, rate=768_000, channels=64)
    )
    assert decoded(wav_header(path, rate=192_000, channels=16)).samples.shape == (16, 512)


SHARES = {0.1: False, 0.45: False, 0.55: True, 0.9: True}


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac"])
def test_a_file_cut_off_counts_if_half_of_it_is_there(suffix: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", noise(4.0), 44_100)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    for share, fine in SHARES.items():
        path = tmp_path / f"{share}.{suffix}"
        path.write_bytes(content[: round(share * len(content))])
        if fine:
            assert abs(decoded(path).samples.shape[1] / 44_100 - 4 * share) < 0.2
        else:
            assert reason(path).endswith("of 4.00 seconds can be decoded, less than half")
        assert decoded(path, seconds=0.3).samples.shape == (2, 13_230)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "mp3"])
def test_a_container_cut_off_counts_if_half_of_it_is_there(suffix: str, tmp_path: Path) -> None:
    rate = 48_000 if suffix == "webm" else 44_100
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    path = tmp_path / f"a.{suffix}"
    write(path, sound=noise(4.0, rate=rate), rate=rate, options=options)
    content = path.read_bytes()
    for share, fine in SHARES.items():
        path.write_bytes(content[: round(share * len(content))])
        if fine:
            assert abs(decoded(path).samples.shape[1] / rate - 4 * share) < 0.4
        else:
            assert "seconds can be decoded, less than half" in reason(path)


def test_an_mp3_without_its_length_is_what_there_is_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp3", sound=noise(4.0), options={"write_xing": "0"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 5])
    assert abs(decoded(path).samples.shape[1] / 44_100 - 0.8) < 0.1


def test_a_header_that_could_not_know_the_length_promises_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), 44_100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for size in (0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000):
        content[40:44] = size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(content)
        assert decoded(tmp_path / "a.wav").samples.shape == (2, 44_100)


def test_what_a_recorder_left_that_never_wrote_the_length_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), 44_100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    assert decoded(tmp_path / "a.wav").samples.shape == (2, 44_100)


def test_a_flac_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1.0), 44_100)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the last 36 bits before the digest are the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert decoded(tmp_path / "a.flac").samples.shape == (2, 44_100)


def test_a_damaged_stretch_leaves_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", sound=noise(4.0))
    content = bytearray(path.read_bytes())
    whole = decoded(path).samples.shape[1]
    start = content.index(b"mdat") + 20_000
    content[start : start + 4000] = b"\xff" * 4000
    path.write_bytes(content)
    assert 0.8 * whole < decoded(path).samples.shape[1] <= whole


def test_damage_says_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("mp3", "mp4", "flac", "wav"):
        content = bytearray(write(tmp_path / f"a.{suffix}", sound=noise(1.0)).read_bytes())
        content[6000:8000] = b"\xee" * 2000
        (tmp_path / f"a.{suffix}").write_bytes(content)
        decoded(tmp_path / f"a.{suffix}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "opus", "mp4", "webm", "avi"])
def test_damage_anywhere_in_a_file_gives_a_sound_or_a_reason(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    rate = 48_000 if suffix in ("opus", "webm") else 44_100
    if suffix == "ogg":
        soundfile.write(path, noise(1.5), rate)
    else:
        write(path, sound=noise(1.5, rate=rate), rate=rate)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    read = 0
    for number in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole) if number % 2 else 300, 2):
            damaged[place] = int(generator.integers(256))
        path.write_bytes(
            damaged[: int(generator.integers(1, len(whole)))] if number % 3 else damaged
        )
        try:
            assert np.isfinite(decoded(path).samples).all()
            read += 1
        except MediaError as error:
            assert str(error).startswith(f"{path.name}: ")
            assert "\n" not in str(error)
    assert read > 0


@pytest.mark.parametrize(
    ("folder", "count"),
    [("audiocaps_clips", 12), pytest.param("esc10/audio", 320, marks=pytest.mark.slow)],
)
def test_every_real_recording_and_sound_track_is_decoded_and_has_a_bank(
    folder: str, count: int
) -> None:
    if not (SHARED / "data" / folder).is_dir():
        pytest.skip(f"needs {folder} in ../shared/data")
    load = FilterBankLoader(official_audio(128, 1024))
    paths = [one for one in (SHARED / "data" / folder).iterdir() if one.suffix != ".jsonl"]
    assert len(paths) == count
    for path in paths:
        sound = decode_sound(path, seconds=10.3)
        bank = load(MediaItem.at(path, path.stem, "audio"), 0)
        seconds = sound.samples.shape[1] / sound.rate
        windows = int((seconds - 0.025) * 100) + 1
        assert abs(int((bank != 0).any(dim=1).sum()) - min(1024, windows)) <= 1
        if path.suffix in (".wav", ".ogg"):
            expected, rate = soundfile.read(path, dtype="float32", always_2d=True)
            assert rate == sound.rate
            assert np.array_equal(sound.samples, expected.T)
