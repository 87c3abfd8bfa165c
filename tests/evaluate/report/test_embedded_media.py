"""How a page shows an image, a video or an audio clip."""

import base64
import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from epalm.evaluate.report.embedded_media import MAX_BYTES, STRIP_FRAMES, Embedded, embed
from epalm.media import media_preview
from epalm.tasks.types import ByteRange, MediaItem, Modality

COUNT = 31
"""Frames of every clip made here; the middle one is number 15."""

MIDDLES = [(2 * part + 1) * COUNT // (2 * STRIP_FRAMES) for part in range(STRIP_FRAMES)]
"""Frames in the middles of equal stretches."""

STRIP_SIZES = {"a.gif": (64, 48), "a.mp4": (160, 120), "a.webm": (160, 120)}


def shades(size: tuple[int, int]) -> list[Image.Image]:
    """Frame n has the gray value 8 n."""
    return [Image.new("RGB", size, (8 * number,) * 3) for number in range(COUNT)]


def write_gif(path: Path, size: tuple[int, int] = (64, 48)) -> None:
    first, *rest = shades(size)
    first.save(path, save_all=True, append_images=rest, duration=100)


def write_clip(path: Path, codec: str, size: tuple[int, int] = (640, 480)) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number, shade in enumerate(shades(size)):
            frame = av.VideoFrame.from_image(shade)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_sound(path: Path, seconds: float, rate: int = 44_100) -> None:
    """A tone of 441 Hz on two channels."""
    wave = 0.5 * np.sin(2 * np.pi * 441 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.stack([wave, wave], axis=1), rate)


def write_m4a(path: Path, seconds: float, rate: int = 16_000) -> None:
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        wave = 0.5 * np.sin(2 * np.pi * 441 * np.arange(round(seconds * rate)) / rate)
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
        frame.rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def pad(path: Path) -> None:
    """Grow the file beyond the limit by bytes that no reader looks at."""
    with path.open("ab") as stream:
        stream.write(bytes(MAX_BYTES))


def embedded(path: Path, modality: Modality) -> Embedded:
    return embed(MediaItem(path.name, path.parent, path.name, modality))


def content(medium: Embedded) -> io.BytesIO:
    return decoded(medium.url)


def decoded(address: str) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(address.partition(",")[2]))


def check_strip(medium: Embedded, width: int, height: int) -> None:
    """Each frame of the row is the shade of its time, give or take one; AVI counts from 1."""
    with Image.open(decoded(medium.strip)) as opened:
        strip = opened.convert("L")
    assert strip.size == (STRIP_FRAMES * (width + 2) - 2, height)
    grays = [strip.getpixel((part * (width + 2) + width // 2, 9)) for part in range(STRIP_FRAMES)]
    assert grays == pytest.approx([8 * place for place in MIDDLES], abs=13)
    assert medium.strip_alt == "6 frames, evenly spread over the video"


def test_a_small_drawing_is_embedded_without_loss(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "b.png")
    medium = embedded(tmp_path / "b.png", "image")
    assert (medium.coarse, medium.note) == (True, "")
    with Image.open(content(medium)) as drawing:
        assert drawing.convert("RGB").getpixel((3, 3)) == (0, 0, 255)


def test_an_image_whose_format_runs_other_programs_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("PIL started a program")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8)).save(path, "EPS")
    shown = embed(MediaItem.from_path(path, "photo"))
    assert (shown.element, "not a supported image" in shown.url) == ("none", True)


def test_an_image_in_a_tar_file_is_embedded(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    photo = (tmp_path / "a.png").read_bytes()
    (tmp_path / "0.tar").write_bytes(b"before" + photo + b"after")
    whole = embed(MediaItem.from_path(tmp_path / "a.png", "a"))
    assert embed(MediaItem("a", tmp_path, "0.tar", part=ByteRange(6, len(photo)))) == whole
    beyond = embed(MediaItem("a", tmp_path, "0.tar", part=ByteRange(90, len(photo))))
    assert beyond.element == "none"


@pytest.mark.parametrize(
    ("name", "write", "shown", "mime"),
    [
        ("a.gif", write_gif, "image, coarse", "image/gif"),
        ("a.mp4", lambda path: write_clip(path, "h264"), "video", "video/mp4"),
        (
            "a.webm",
            lambda path: write_clip(path, "libvpx-vp9", (160, 120)),
            "video, coarse",
            "video/webm",
        ),
    ],
)
def test_a_small_video_that_browsers_play_is_embedded_as_it_is(
    tmp_path: Path, name: str, write: Callable[[Path], None], shown: str, mime: str
) -> None:
    write(tmp_path / name)
    medium = embedded(tmp_path / name, "video")
    assert (medium.element + ", coarse" * medium.coarse, medium.note) == (shown, "")
    assert medium.url.startswith(f"data:{mime};base64,")
    assert content(medium).read() == (tmp_path / name).read_bytes()
    check_strip(medium, *STRIP_SIZES[name])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("large.gif", lambda path: (write_gif(path, (640, 480)), pad(path))),
        ("large.mp4", lambda path: (write_clip(path, "h264"), pad(path))),
        ("a.avi", lambda path: write_clip(path, "mpeg4")),
        ("a.mkv", lambda path: write_clip(path, "h264")),
        ("unplayable.mp4", lambda path: write_clip(path, "mpeg4")),
    ],
)
def test_other_videos_are_shown_as_frames_in_a_row_alone(
    tmp_path: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(tmp_path / name)
    medium = embedded(tmp_path / name, "video")
    assert medium.element == "none"
    assert medium.url == "it is too large or not playable in browsers"
    check_strip(medium, 160, 120)


@pytest.mark.parametrize(
    ("name", "write", "mime"),
    [
        ("a.wav", lambda path: write_sound(path, 1.0), "audio/wav"),
        ("a.flac", lambda path: write_sound(path, 1.0), "audio/flac"),
        ("a.m4a", lambda path: write_m4a(path, 1.0), "audio/mp4"),
    ],
)
def test_a_small_audio_clip_is_embedded_as_it_is(
    tmp_path: Path, name: str, write: Callable[[Path], None], mime: str
) -> None:
    write(tmp_path / name)
    medium = embedded(tmp_path / name, "audio")
    assert (medium.element, medium.note) == ("audio", "")
    assert medium.url.startswith(f"data:{mime};base64,")
    assert content(medium).read() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "write", "seconds"),
    [
        ("long.wav", lambda path: write_sound(path, 12.0), 10.0),
        ("a.aiff", lambda path: write_sound(path, 1.0), 1.0),
        ("clip.mp4", lambda path: write_m4a(path, 1.0), 1.0),
        ("large.m4a", lambda path: (write_m4a(path, 1.0), pad(path)), 1.0),
    ],
)
def test_of_other_audio_clips_and_sound_tracks_the_first_seconds_are_embedded(
    tmp_path: Path, name: str, write: Callable[[Path], None], seconds: float
) -> None:
    write(tmp_path / name)
    medium = embedded(tmp_path / name, "audio")
    assert (medium.element, medium.note) == ("audio", "the first 10 seconds at most")
    assert medium.url.startswith("data:audio/mpeg;base64,")
    sound, rate = soundfile.read(content(medium))
    assert len(sound) / rate == pytest.approx(seconds, abs=0.15)
    loudness = np.abs(np.fft.rfft(sound))
    assert np.argmax(loudness) * rate / len(sound) == pytest.approx(441, abs=5)
    assert len(medium.url) < MAX_BYTES / 2


def test_frames_that_are_far_apart_are_found_by_seeking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "a.mkv", "h264")
    near = embedded(tmp_path / "a.mkv", "video").strip
    monkeypatch.setattr(media_preview, "SEEK_SECONDS", 0.01)
    assert embedded(tmp_path / "a.mkv", "video").strip == near


def test_a_spectrogram_is_bright_at_the_pitch_of_a_tone(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 1.0)
    medium = embedded(tmp_path / "a.wav", "audio")
    with Image.open(decoded(medium.strip)) as opened:
        shades = np.asarray(opened.convert("L"), dtype=float)
    assert shades.shape == (144, 480)
    row = int(shades.mean(axis=1).argmax())
    assert (143.5 - row) / 144 * media_preview.SPECTRUM_HZ == pytest.approx(441, abs=60)
    assert shades[:72].mean() < 40
    assert medium.strip_alt == "spectrogram up to 8 kHz, of the first 10 seconds at most"


def test_silence_is_drawn_black_and_a_faint_tone_is_not() -> None:
    silence = np.zeros(media_preview.RATE_HZ, np.float32)
    assert np.asarray(media_preview.spectrogram(silence).convert("L")).max() == 0
    tone = np.sin(2 * np.pi * 441 * np.arange(media_preview.RATE_HZ) / media_preview.RATE_HZ)
    faint = media_preview.spectrogram((1e-3 * tone).astype(np.float32))
    assert np.asarray(faint.convert("L")).max() > 200


def test_a_video_is_shown_upright(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", "h264", (320, 160))
    matrix = b"\0\1\0\0" + bytes(12) + b"\0\1\0\0" + bytes(12) + b"\x40\0\0\0"
    quarter = bytes(4) + b"\0\1\0\0" + bytes(4) + b"\xff\xff\0\0" + bytes(16) + b"\x40\0\0\0"
    file = (tmp_path / "a.mp4").read_bytes()
    header = file.rindex(b"tkhd")
    place = file.index(matrix, header)
    turned = file[:place] + quarter + file[place + len(matrix) :]
    (tmp_path / "turned.mp4").write_bytes(turned + bytes(MAX_BYTES))
    strip = embedded(tmp_path / "turned.mp4", "video").strip
    with Image.open(decoded(strip)) as frames:
        assert frames.size == (STRIP_FRAMES * (80 + 2) - 2, 160)


@pytest.mark.parametrize(
    ("name", "modality"),
    [("a.jpg", "image"), ("a.mp4", "video"), ("a.avi", "video"), ("a.aiff", "audio")],
)
def test_a_sample_that_cannot_be_decoded_has_the_reason(
    tmp_path: Path, name: str, modality: Modality
) -> None:
    (tmp_path / name).write_bytes(b"0" * 10)
    medium = embedded(tmp_path / name, modality)
    assert medium.element == "none"
    assert medium.url.startswith("it cannot be decoded (")


def test_an_audio_clip_has_no_images_and_a_silent_video_no_sound(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", 0.1)
    (tmp_path / "a.wav").rename(tmp_path / "sound.avi")
    write_clip(tmp_path / "clip.mkv", "h264")
    assert embedded(tmp_path / "sound.avi", "video").element == "none"
    assert embedded(tmp_path / "clip.mkv", "audio").element == "none"


def test_a_missing_file_is_reported_in_its_place(tmp_path: Path) -> None:
    assert embedded(tmp_path / "a.gif", "video").url == "its file no longer exists"
