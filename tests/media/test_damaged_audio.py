"""Damaged audio files decode as far as possible, or raise one error with the reason."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from epalm.errors import MediaError
from epalm.media.audio_decode import decode_audio
from tests.media.file_writers.av_files import noise, random_frames, write_media
from tests.media.test_audio_decode import decoded


def reason(path: Path, *, seconds: float = 10.0) -> str:
    with pytest.raises(MediaError) as refused:
        decode_audio(path, seconds=seconds)
    message = str(refused.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    assert str(path.parent) not in message
    return message.removeprefix(f"{path.name}: ")


def test_a_file_that_is_not_audio_is_reported(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_bytes(b"this is not audio, " * 9)
    (tmp_path / "zeros.mp3").write_bytes(bytes(5000))
    (tmp_path / "list.wav").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.ts\n")
    (tmp_path / "page.wav").write_bytes(b"<html><body>404 not found</body></html>")
    for name in ("text.wav", "zeros.mp3", "list.wav", "page.wav"):
        assert reason(tmp_path / name).startswith("not a supported audio or video file, or its he")


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", noise(0.1), 44_100)
    (tmp_path / "a.wav").write_text("ffconcat version 1.0\nfile secret.wav\n")
    assert "not a supported audio or video file" in reason(tmp_path / "a.wav")


def test_a_video_without_audio_is_reported(tmp_path: Path) -> None:
    for suffix in ("mp4", "avi", "webm", "gif"):
        path = write_media(tmp_path / f"a.{suffix}", frames=random_frames(5))
        assert reason(path) == "there is no audio track"


def test_what_is_not_a_regular_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "gone.wav")
    assert reason(tmp_path / "empty.wav") == "the file is empty"
    assert reason(tmp_path / "pipe.wav") == "not a regular file"
    assert reason(tmp_path) == "not a regular file"
    assert reason(tmp_path / "dangling.wav") == "no such file"


def test_a_file_without_read_permission_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", noise(0.1), 44_100)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert reason(tmp_path / "a.wav") == "Permission denied"


def test_an_audio_file_without_samples_is_reported(tmp_path: Path) -> None:
    for suffix in ("wav", "aiff", "au", "w64"):
        soundfile.write(tmp_path / f"a.{suffix}", np.zeros((0, 2), np.float32), 44_100)
        message = reason(tmp_path / f"a.{suffix}")
        assert message.startswith(
            ("no audio samples can be", "not a supported audio or video file")
        )


@pytest.mark.parametrize("invalid", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples_are_counted_and_located(invalid: float, tmp_path: Path) -> None:
    samples = noise(2.0)
    samples[44_100:44_103, 1] = invalid
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    assert reason(tmp_path / "a.wav") == "3 samples are NaN or infinite, the first at 1.000 s"
    assert decoded(tmp_path / "a.wav", seconds=0.9).samples.shape == (2, 39_690)


def test_float64_samples_beyond_float32_are_refused_as_infinite(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(9, 1e300), 44_100, subtype="DOUBLE")
    assert reason(tmp_path / "a.wav") == "9 samples are NaN or infinite, the first at 0.000 s"


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


def test_implausible_sample_rates_and_channel_counts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    assert "the sample rate is 3 Hz, supported are 1000 to 768000 Hz" in reason(
        wav_header(path, rate=3)
    )
    assert "the sample rate is" in reason(wav_header(path, rate=2_000_000_000))
    assert reason(wav_header(path, channels=900)) == "900 channels, supported are 1 to 64"
    assert "10 seconds of 64 channels at 768000 Hz exceed the limit of 60000000 samples" in reason(
        wav_header(path, rate=768_000, channels=64)
    )
    assert decoded(wav_header(path, rate=192_000, channels=16)).samples.shape == (16, 512)


FRACTIONS = {0.1: False, 0.45: False, 0.55: True, 0.9: True}


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "flac"])
def test_a_truncated_file_is_decoded_if_half_of_it_is_left(suffix: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", noise(4.0), 44_100)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    for fraction, is_decoded in FRACTIONS.items():
        path = tmp_path / f"{fraction}.{suffix}"
        path.write_bytes(content[: round(fraction * len(content))])
        if is_decoded:
            assert abs(decoded(path).samples.shape[1] / 44_100 - 4 * fraction) < 0.2
        else:
            assert reason(path).endswith("of 4.00 seconds can be decoded, less than half")
        assert decoded(path, seconds=0.3).samples.shape == (2, 13_230)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "mp3"])
def test_a_truncated_container_is_decoded_if_half_of_it_is_left(
    suffix: str, tmp_path: Path
) -> None:
    rate = 48_000 if suffix == "webm" else 44_100
    options = {"movflags": "faststart"} if suffix == "mp4" else {}
    path = tmp_path / f"a.{suffix}"
    write_media(path, sound=noise(4.0, rate=rate), rate=rate, options=options)
    content = path.read_bytes()
    for fraction, is_decoded in FRACTIONS.items():
        path.write_bytes(content[: round(fraction * len(content))])
        if is_decoded:
            assert abs(decoded(path).samples.shape[1] / rate - 4 * fraction) < 0.4
        else:
            assert "seconds can be decoded, less than half" in reason(path)


def test_an_mp3_without_a_length_is_decoded_to_its_end(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp3", sound=noise(4.0), options={"write_xing": "0"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 5])
    assert abs(decoded(path).samples.shape[1] / 44_100 - 0.8) < 0.1


def test_a_placeholder_length_in_the_header_is_ignored(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), 44_100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    for size in (0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000):
        content[40:44] = size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(content)
        assert decoded(tmp_path / "a.wav").samples.shape == (2, 44_100)


def test_a_wav_whose_length_was_never_written_is_decoded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1.0), 44_100)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    assert decoded(tmp_path / "a.wav").samples.shape == (2, 44_100)


def test_a_flac_written_to_a_pipe_is_decoded_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1.0), 44_100)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the last 36 bits before the digest are the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert decoded(tmp_path / "a.flac").samples.shape == (2, 44_100)


def test_damage_in_the_middle_leaves_the_rest(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", sound=noise(4.0))
    content = bytearray(path.read_bytes())
    whole = decoded(path).samples.shape[1]
    start = content.index(b"mdat") + 20_000
    content[start : start + 4000] = b"\xff" * 4000
    path.write_bytes(content)
    assert 0.8 * whole < decoded(path).samples.shape[1] <= whole


def test_damage_prints_nothing_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for suffix in ("mp3", "mp4", "flac", "wav"):
        content = bytearray(write_media(tmp_path / f"a.{suffix}", sound=noise(1.0)).read_bytes())
        content[6000:8000] = b"\xee" * 2000
        (tmp_path / f"a.{suffix}").write_bytes(content)
        decoded(tmp_path / f"a.{suffix}")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "opus", "mp4", "webm", "avi"])
def test_damage_anywhere_in_a_file_gives_audio_or_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    rate = 48_000 if suffix in ("opus", "webm") else 44_100
    if suffix == "ogg":
        soundfile.write(path, noise(1.5), rate)
    else:
        write_media(path, sound=noise(1.5, rate=rate), rate=rate)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    read = 0
    for number in range(60):
        damaged = bytearray(whole)
        for index in generator.integers(0, len(whole) if number % 2 else 300, 2):
            damaged[index] = int(generator.integers(256))
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
