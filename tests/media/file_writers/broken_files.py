"""Write folders of deliberately broken images, videos and audio files.

Each file has an expected outcome: DECODED, or a pattern of the reason in errors.jsonl.
"""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from tests.media.file_writers.av_files import noise, random_frames, write_media

DECODED = ""
UNREADABLE = "not a supported image|cannot be decoded|not a supported audio or video file"

Outcomes = dict[str, str]
FolderWriter = Callable[[Path], Outcomes]

ROTATION_90 = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
"""Display matrix of an MP4 track that is rotated by 90 degrees."""


def truncated_copies(folder: Path, name: str, outcomes: Outcomes) -> Outcomes:
    """Write truncated copies of a file; each name ends with the percentage of bytes to keep."""
    content = (folder / name).read_bytes()
    for cut in outcomes:
        percent = int(cut.split("-")[1].partition(".")[0])
        (folder / cut).write_bytes(content[: len(content) * percent // 100])
    return outcomes


def random_bytes(count: int) -> bytes:
    """Random bytes with a fixed seed."""
    return np.random.default_rng(3).bytes(count)


def copy_prefix(folder: Path, name: str, count: int, *, new: str, then: bytes = b"") -> None:
    """Write the first bytes of a file, followed by `then`, to a new file."""
    (folder / new).write_bytes((folder / name).read_bytes()[:count] + then)


def unusual_files(folder: Path, ending: str) -> Outcomes:
    """Create files that are not regular, or whose content is of another type."""
    (folder / f"empty{ending}").touch()
    (folder / f"text{ending}").write_text("Not Found: the file has moved\n" * 40)
    (folder / f"zeros{ending}").write_bytes(bytes(20_000))
    (folder / f"random{ending}").write_bytes(random_bytes(20_000))
    (folder / f"folder{ending}").mkdir()
    (folder / f"dangling{ending}").symlink_to(folder / "nowhere")
    (folder / f"loop{ending}").symlink_to(folder / f"loop{ending}")
    os.mkfifo(folder / f"pipe{ending}")
    (folder / f"device{ending}").symlink_to("/dev/zero")
    return {
        f"empty{ending}": "the file is empty",
        f"text{ending}": UNREADABLE,
        f"zeros{ending}": UNREADABLE,
        f"random{ending}": UNREADABLE,
        f"folder{ending}": "not a regular file",
        f"dangling{ending}": "no such file",
        f"loop{ending}": "symbolic links",
        f"pipe{ending}": "not a regular file",
        f"device{ending}": "not a regular file",
        f"gone{ending}": "no such file",
        **unreadable_file(folder, ending),
    }


def unreadable_file(folder: Path, ending: str) -> Outcomes:
    """Create a file that only root may read."""
    path = folder / f"locked{ending}"
    path.write_bytes(b"nothing")
    path.chmod(0)
    return {path.name: UNREADABLE if os.access(path, os.R_OK) else "Permission denied"}


def images(folder: Path) -> Outcomes:
    """Write images."""
    image = Image.fromarray(random_frames(1, width=200, height=120)[0])
    image.save(folder / "good.jpg")
    image.save(folder / "png-as.jpg", "PNG")
    image.save(folder / "progressive.jpg", progressive=True)
    image.resize((33, 17)).save(folder / "odd.png")
    image.resize((1, 1)).save(folder / "one-pixel.png")
    image.resize((4000, 2)).save(folder / "thin.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", exif=exif)
    image.convert("CMYK").save(folder / "inks.jpg")
    image.save(folder / "whole.png")
    copy_prefix(folder, "whole.png", 33, new="header.png")
    copy_prefix(folder, "whole.png", 41, new="then-random.png", then=random_bytes(3000))
    copy_prefix(folder, "good.jpg", 200, new="then-random.jpg", then=random_bytes(3000))
    huge = bytearray((folder / "whole.png").read_bytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge)
    write_media(folder / "clip.mp4", frames=random_frames(3)).rename(folder / "clip.jpg")
    return {
        **dict.fromkeys(["good.jpg", "png-as.jpg", "progressive.jpg", "odd.png"], DECODED),
        **dict.fromkeys(["one-pixel.png", "turned.jpg", "inks.jpg", "whole.png"], DECODED),
        "thin.png": DECODED,
        "header.png": "not a supported image",
        "then-random.png": "cannot be decoded",
        "then-random.jpg": "not a supported image",
        "huge.png": "60000 x 60000 exceeds the limit|exceeds limit .* decompression bomb",
        "clip.jpg": "not a supported image",
        **truncated_copies(folder, "good.jpg", CUT_JPEG),
        **truncated_copies(folder, "whole.png", CUT_PNG),
        **unusual_files(folder, ".png"),
    }


TOO_FEW_ROWS = r"truncated, \d+ of 120 rows can be decoded"
CUT_JPEG = {"cut-10.jpg": "not a supported image|cannot be decoded", "cut-50.jpg": TOO_FEW_ROWS}
CUT_JPEG |= {"cut-90.jpg": DECODED}
CUT_PNG = {"cut-10.png": TOO_FEW_ROWS, "cut-50.png": TOO_FEW_ROWS, "cut-90.png": DECODED}


def write_rotated_video(path: Path, frames: np.ndarray) -> None:
    """Write an MP4 whose header specifies a rotation by 90 degrees."""
    content = bytearray(write_media(path, frames=frames).read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in ROTATION_90
    )
    path.write_bytes(content)


def write_huge_gif(path: Path, frames: np.ndarray) -> None:
    """Write a GIF whose header has the largest possible screen."""
    content = bytearray(write_media(path, frames=frames).read_bytes())
    content[6:10] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


def videos(folder: Path) -> Outcomes:
    """Write videos of 20 frames."""
    frames = random_frames(20)
    for ending in ("mp4", "avi", "webm", "mkv", "mov", "gif", "mpg"):
        write_media(folder / f"good.{ending}", frames=frames)
    write_media(folder / "other.mp4", frames=frames).rename(folder / "mp4-as.avi")
    write_media(folder / "with-sound.mp4", frames=frames, sound=noise(2.0))
    write_media(folder / "one-frame.mp4", frames=frames[:1])
    write_media(folder / "odd.mp4", frames=random_frames(12, width=33, height=17))
    write_media(folder / "uneven.mp4", frames=frames[:6], times=[0, 40, 45, 900, 901, 3000])
    write_media(folder / "ahead.mp4", frames=frames, options={"movflags": "faststart"})
    write_rotated_video(folder / "turned.mp4", frames)
    write_huge_gif(folder / "huge.gif", frames)
    write_media(folder / "heard.mp4", sound=noise(1.0))
    soundfile.write(folder / "heard.wav", noise(1.0), 44_100)
    (folder / "heard.wav").rename(folder / "wav-as.mp4")
    Image.fromarray(frames[0]).save(folder / "still.gif")
    Image.fromarray(frames[0]).save(folder / "jpeg-as.mp4", "JPEG")
    copy_prefix(folder, "good.webm", 300, new="header.webm")
    copy_prefix(folder, "good.avi", 300, new="header.avi")
    copy_prefix(folder, "good.gif", 13, new="header.gif")
    copy_prefix(folder, "ahead.mp4", 1200, new="then-random.mp4", then=random_bytes(9000))
    few = "frames can be decoded|has no frames|cannot be decoded|no video track"
    return {
        **{
            f"good.{ending}": DECODED
            for ending in ("mp4", "avi", "webm", "mkv", "mov", "gif", "mpg")
        },
        **dict.fromkeys(["mp4-as.avi", "with-sound.mp4", "one-frame.mp4", "odd.mp4"], DECODED),
        **dict.fromkeys(["uneven.mp4", "ahead.mp4", "turned.mp4", "still.gif"], DECODED),
        "huge.gif": "exceeds? the limit|cannot be decoded|frames can be decoded",
        "heard.mp4": "no video track",
        "wav-as.mp4": "cannot be decoded",
        "jpeg-as.mp4": "cannot be decoded",
        "header.webm": few,
        "header.avi": few,
        "header.gif": few,
        "then-random.mp4": few,
        **truncated_copies(
            folder, "good.mp4", dict.fromkeys(CUT_MP4, "cannot be decoded|no decoder")
        ),
        **truncated_copies(folder, "ahead.mp4", CUT_FASTSTART),
        **truncated_copies(folder, "good.gif", CUT_GIF),
        **unusual_files(folder, ".mp4"),
    }


CUT_MP4 = ("cut-10.mp4", "cut-50.mp4", "cut-90.mp4")
CUT_FASTSTART = {
    "ahead-20.mp4": "of 20 frames can be decoded|cannot be decoded",
    "ahead-95.mp4": DECODED,
}
CUT_GIF = {"cut-10.gif": DECODED, "cut-90.gif": DECODED}


def write_wav_with_header(path: Path, *, rate: int = 44_100, channels: int = 2) -> None:
    """Write a WAV file whose header does not match its content."""
    soundfile.write(path, np.zeros((4096, 2), np.int16), 44_100)
    content = bytearray(path.read_bytes())
    content[22:24] = channels.to_bytes(2, "little")
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)


def audio_clips(folder: Path) -> Outcomes:
    """Write audio files of 1.2 s, which is shorter than the input of the tiny encoder."""
    samples = noise(1.2)
    for ending in ("wav", "flac", "ogg", "aiff"):
        soundfile.write(folder / f"good.{ending}", samples, 44_100)
    for ending in ("mp3", "m4a", "aac"):
        write_media(folder / f"good.{ending}", sound=samples)
    write_media(folder / "good.opus", sound=noise(1.2, rate=48_000), rate=48_000)
    soundfile.write(folder / "deep.wav", samples, 96_000, subtype="PCM_24")
    soundfile.write(folder / "phone.wav", noise(1.2, rate=8000, channels=1), 8000, subtype="ULAW")
    soundfile.write(folder / "odd.wav", samples, 44_099)
    soundfile.write(folder / "silence.wav", np.zeros((44_100, 6)), 44_100)
    write_media(folder / "clip.mp4", sound=samples, frames=random_frames(20)).rename(
        folder / "clip.wav"
    )
    write_media(folder / "mute.mp4", frames=random_frames(5)).rename(folder / "mute.wav")
    soundfile.write(folder / "one-sample.wav", samples[:1], 44_100)
    soundfile.write(folder / "no-sample.wav", samples[:0], 44_100)
    strange = samples.copy()
    strange[22_050] = np.nan
    soundfile.write(folder / "nan.wav", strange, 44_100, subtype="FLOAT")
    write_wav_with_header(folder / "slow.wav", rate=1)
    write_wav_with_header(folder / "mad.wav", rate=4_000_000_000)
    write_wav_with_header(folder / "no-channel.wav", channels=0)
    write_wav_with_header(folder / "choir.wav", channels=4000)
    copy_prefix(folder, "good.wav", 44, new="header.wav")
    copy_prefix(folder, "good.wav", 20, new="half-header.wav")
    copy_prefix(folder, "good.flac", 42, new="then-random.flac", then=random_bytes(9000))
    copy_prefix(folder, "good.ogg", 100, new="then-random.ogg", then=random_bytes(9000))
    unreadable = "not a supported audio or video file|no audio samples|can be decoded"
    return {
        **{
            f"good.{ending}": DECODED
            for ending in ("wav", "flac", "ogg", "aiff", "mp3", "m4a", "aac")
        },
        **dict.fromkeys(["good.opus", "deep.wav", "phone.wav", "odd.wav"], DECODED),
        **dict.fromkeys(["silence.wav", "clip.wav"], DECODED),
        "mute.wav": "there is no audio track",
        "one-sample.wav": "0.0 ms, at least 25 ms are needed",
        "no-sample.wav": "no audio samples can be decoded",
        "nan.wav": "2 samples are NaN or infinite, the first at 0.500 s",
        "slow.wav": "sample rate is 1 Hz, supported are",
        "mad.wav": "the sample rate is|not a supported audio",
        "no-channel.wav": "0 channels|not a supported audio|no audio samples",
        "choir.wav": "4000 channels|not a supported audio|no audio samples",
        "header.wav": "no audio samples can be decoded",
        "half-header.wav": unreadable,
        "then-random.flac": unreadable,
        "then-random.ogg": unreadable,
        **truncated_copies(folder, "good.wav", CUT_WAV),
        **truncated_copies(folder, "good.flac", CUT_FLAC),
        **truncated_copies(folder, "good.mp3", CUT_MP3),
        **truncated_copies(folder, "good.ogg", CUT_OGG),
        **truncated_copies(folder, "good.m4a", CUT_M4A),
        **unusual_files(folder, ".wav"),
    }


TOO_SHORT = "of 1.20 seconds can be decoded, less than half"
CUT_WAV = {
    "cut-10.wav": TOO_SHORT,
    "cut-49.wav": TOO_SHORT,
    "cut-51.wav": DECODED,
    "cut-90.wav": DECODED,
}
CUT_FLAC = {"cut-10.flac": TOO_SHORT, "cut-90.flac": DECODED}
CUT_MP3 = {"cut-10.mp3": TOO_SHORT, "cut-60.mp3": DECODED, "cut-90.mp3": DECODED}
CUT_OGG = {"cut-10.ogg": "no audio samples|not a supported audio", "cut-90.ogg": DECODED}
CUT_M4A = {"cut-10.m4a": "not a supported audio", "cut-90.m4a": "not a supported audio"}
