"""Folders of deliberately broken media, made on the spot: each file with what must become of it.

A file's fate is FINE, or a pattern of the reason that must stand in errors.jsonl.
"""

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from tests.media.av_files import noise, pictures, write

FINE = ""

Fates = dict[str, str]
Maker = Callable[[Path], Fates]

QUARTER_TURN = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
"""The matrix of a track in an MP4 that is shown turned by 90 degrees."""


def shares(folder: Path, name: str, fates: Fates) -> Fates:
    """Copies of a file that break off after 10, 50 and 90 % of its bytes."""
    content = (folder / name).read_bytes()
    for cut in fates:
        percent = int(cut.split("-")[1].partition(".")[0])
        (folder / cut).write_bytes(content[: len(content) * percent // 100])
    return fates


def chance(count: int) -> bytes:
    """The same random bytes each time."""
    return np.random.default_rng(3).bytes(count)


def beginning(folder: Path, name: str, count: int, *, new: str, then: bytes = b"") -> None:
    """The first bytes of a file under another name, and what follows them."""
    (folder / new).write_bytes((folder / name).read_bytes()[:count] + then)


def entries(folder: Path, ending: str) -> Fates:
    """What is no ordinary file, or holds nothing of the kind."""
    (folder / f"empty{ending}").touch()
    (folder / f"text{ending}").write_text("Not Found: the file has moved\n" * 40)
    (folder / f"zeros{ending}").write_bytes(bytes(20_000))
    (folder / f"random{ending}").write_bytes(chance(20_000))
    (folder / f"folder{ending}").mkdir()
    (folder / f"dangling{ending}").symlink_to(folder / "nowhere")
    (folder / f"loop{ending}").symlink_to(folder / f"loop{ending}")
    os.mkfifo(folder / f"pipe{ending}")
    (folder / f"device{ending}").symlink_to("/dev/zero")
    return {
        f"empty{ending}": "the file is empty",
        f"text{ending}": "not a photo|cannot be decoded|neither sound nor clip",
        f"zeros{ending}": "not a photo|cannot be decoded|neither sound nor clip",
        f"random{ending}": "not a photo|cannot be decoded|neither sound nor clip",
        f"folder{ending}": "not a file",
        f"dangling{ending}": "no such file",
        f"loop{ending}": "symbolic links",
        f"pipe{ending}": "not a file",
        f"device{ending}": "not a file",
        f"gone{ending}": "no such file",
        **locked(folder, ending),
    }


def locked(folder: Path, ending: str) -> Fates:
    """A file that may not be read, save by root."""
    path = folder / f"locked{ending}"
    path.write_bytes(b"nothing")
    path.chmod(0)
    refused = "not a photo|cannot be decoded|neither sound nor clip"
    return {path.name: refused if os.access(path, os.R_OK) else "Permission denied"}


def images(folder: Path) -> Fates:
    """Photos."""
    photo = Image.fromarray(pictures(1, width=200, height=120)[0])
    photo.save(folder / "good.jpg")
    photo.save(folder / "png-as.jpg", "PNG")
    photo.save(folder / "progressive.jpg", progressive=True)
    photo.resize((33, 17)).save(folder / "odd.png")
    photo.resize((1, 1)).save(folder / "one-pixel.png")
    photo.resize((4000, 2)).save(folder / "thin.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(folder / "turned.jpg", exif=exif)
    photo.convert("CMYK").save(folder / "inks.jpg")
    photo.save(folder / "whole.png")
    beginning(folder, "whole.png", 33, new="header.png")
    beginning(folder, "whole.png", 41, new="then-random.png", then=chance(3000))
    beginning(folder, "good.jpg", 200, new="then-random.jpg", then=chance(3000))
    huge = bytearray((folder / "whole.png").read_bytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    (folder / "huge.png").write_bytes(huge)
    write(folder / "clip.mp4", frames=pictures(3)).rename(folder / "clip.jpg")
    return {
        **dict.fromkeys(["good.jpg", "png-as.jpg", "progressive.jpg", "odd.png"], FINE),
        **dict.fromkeys(["one-pixel.png", "turned.jpg", "inks.jpg", "whole.png"], FINE),
        "thin.png": FINE,
        "header.png": "not a photo",
        "then-random.png": "cannot be decoded",
        "then-random.jpg": "not a photo",
        "huge.png": "60000 x 60000 exceeds limit|exceeds limit of .* could be decompression bomb",
        "clip.jpg": "not a photo",
        **shares(folder, "good.jpg", CUT_JPEG),
        **shares(folder, "whole.png", CUT_PNG),
        **entries(folder, ".png"),
    }


LESS_ROWS = r"cut off, \d+ of 120 rows can be decoded"
CUT_JPEG = {"cut-10.jpg": "not a photo|cannot be decoded", "cut-50.jpg": LESS_ROWS}
CUT_JPEG |= {"cut-90.jpg": FINE}
CUT_PNG = {"cut-10.png": LESS_ROWS, "cut-50.png": LESS_ROWS, "cut-90.png": FINE}


def turned_clip(path: Path, frames: np.ndarray) -> None:
    """An MP4 whose header says that it is shown upright after a quarter turn."""
    content = bytearray(write(path, frames=frames).read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = b"".join(
        value.to_bytes(4, "big", signed=True) for value in QUARTER_TURN
    )
    path.write_bytes(content)


def huge_gif(path: Path, frames: np.ndarray) -> None:
    """A GIF whose screen and pictures claim to be as large as can be."""
    content = bytearray(write(path, frames=frames).read_bytes())
    content[6:10] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


def clips(folder: Path) -> Fates:
    """Clips of 20 frames."""
    frames = pictures(20)
    for ending in ("mp4", "avi", "webm", "mkv", "mov", "gif", "mpg"):
        write(folder / f"good.{ending}", frames=frames)
    write(folder / "other.mp4", frames=frames).rename(folder / "mp4-as.avi")
    write(folder / "with-sound.mp4", frames=frames, sound=noise(2.0))
    write(folder / "one-frame.mp4", frames=frames[:1])
    write(folder / "odd.mp4", frames=pictures(12, width=33, height=17))
    write(folder / "uneven.mp4", frames=frames[:6], times=[0, 40, 45, 900, 901, 3000])
    write(folder / "ahead.mp4", frames=frames, options={"movflags": "faststart"})
    turned_clip(folder / "turned.mp4", frames)
    huge_gif(folder / "huge.gif", frames)
    write(folder / "heard.mp4", sound=noise(1.0))
    soundfile.write(folder / "heard.wav", noise(1.0), 44_100)
    (folder / "heard.wav").rename(folder / "wav-as.mp4")
    Image.fromarray(frames[0]).save(folder / "still.gif")
    Image.fromarray(frames[0]).save(folder / "photo.mp4", "JPEG")
    beginning(folder, "good.webm", 300, new="header.webm")
    beginning(folder, "good.avi", 300, new="header.avi")
    beginning(folder, "good.gif", 13, new="header.gif")
    beginning(folder, "ahead.mp4", 1200, new="then-random.mp4", then=chance(9000))
    few = "frames can be decoded|has no frames|cannot be decoded|no picture track"
    return {
        **{f"good.{ending}": FINE for ending in ("mp4", "avi", "webm", "mkv", "mov", "gif", "mpg")},
        **dict.fromkeys(["mp4-as.avi", "with-sound.mp4", "one-frame.mp4", "odd.mp4"], FINE),
        **dict.fromkeys(["uneven.mp4", "ahead.mp4", "turned.mp4", "still.gif"], FINE),
        "huge.gif": "exceeds? the limit|cannot be decoded|frames can be decoded",
        "heard.mp4": "no picture track",
        "wav-as.mp4": "cannot be decoded",
        "photo.mp4": "cannot be decoded",
        "header.webm": few,
        "header.avi": few,
        "header.gif": few,
        "then-random.mp4": few,
        **shares(folder, "good.mp4", dict.fromkeys(CUT_MP4, "cannot be decoded|no decoder")),
        **shares(folder, "ahead.mp4", CUT_AHEAD),
        **shares(folder, "good.gif", CUT_GIF),
        **entries(folder, ".mp4"),
    }


CUT_MP4 = ("cut-10.mp4", "cut-50.mp4", "cut-90.mp4")
CUT_AHEAD = {"ahead-20.mp4": "of 20 frames can be decoded|cannot be decoded", "ahead-95.mp4": FINE}
CUT_GIF = {"cut-10.gif": FINE, "cut-90.gif": FINE}


def damaged_wav(path: Path, *, rate: int = 44_100, channels: int = 2) -> None:
    """A WAV file whose header says something else than is in it."""
    soundfile.write(path, np.zeros((4096, 2), np.int16), 44_100)
    content = bytearray(path.read_bytes())
    content[22:24] = channels.to_bytes(2, "little")
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)


def sounds(folder: Path) -> Fates:
    """Recordings of 1.2 s, which is less than the tiny encoder asks for."""
    voice = noise(1.2)
    for ending in ("wav", "flac", "ogg", "aiff"):
        soundfile.write(folder / f"good.{ending}", voice, 44_100)
    for ending in ("mp3", "m4a", "aac"):
        write(folder / f"good.{ending}", sound=voice)
    write(folder / "good.opus", sound=noise(1.2, rate=48_000), rate=48_000)
    soundfile.write(folder / "deep.wav", voice, 96_000, subtype="PCM_24")
    soundfile.write(folder / "phone.wav", noise(1.2, rate=8000, channels=1), 8000, subtype="ULAW")
    soundfile.write(folder / "odd.wav", voice, 44_099)
    soundfile.write(folder / "silence.wav", np.zeros((44_100, 6)), 44_100)
    write(folder / "clip.mp4", sound=voice, frames=pictures(20)).rename(folder / "clip.wav")
    write(folder / "mute.mp4", frames=pictures(5)).rename(folder / "mute.wav")
    soundfile.write(folder / "one-sample.wav", voice[:1], 44_100)
    soundfile.write(folder / "no-sample.wav", voice[:0], 44_100)
    strange = voice.copy()
    strange[22_050] = np.nan
    soundfile.write(folder / "nan.wav", strange, 44_100, subtype="FLOAT")
    damaged_wav(folder / "slow.wav", rate=1)
    damaged_wav(folder / "mad.wav", rate=4_000_000_000)
    damaged_wav(folder / "no-channel.wav", channels=0)
    damaged_wav(folder / "choir.wav", channels=4000)
    beginning(folder, "good.wav", 44, new="header.wav")
    beginning(folder, "good.wav", 20, new="half-header.wav")
    beginning(folder, "good.flac", 42, new="then-random.flac", then=chance(9000))
    beginning(folder, "good.ogg", 100, new="then-random.ogg", then=chance(9000))
    nothing = "neither sound nor clip|no sample|can be decoded"
    return {
        **{
            f"good.{ending}": FINE for ending in ("wav", "flac", "ogg", "aiff", "mp3", "m4a", "aac")
        },
        **dict.fromkeys(["good.opus", "deep.wav", "phone.wav", "odd.wav"], FINE),
        **dict.fromkeys(["silence.wav", "clip.wav"], FINE),
        "mute.wav": "there is no sound track",
        "one-sample.wav": "0.0 ms, at least 25 ms are needed",
        "no-sample.wav": "there is no sample that can be decoded",
        "nan.wav": "2 samples are no numbers, the first at 0.500 s",
        "slow.wav": "1 samples a second, accepted are",
        "mad.wav": "samples a second, accepted are|neither sound",
        "no-channel.wav": "0 channels|neither sound|no sample",
        "choir.wav": "4000 channels|neither sound|no sample",
        "header.wav": "there is no sample that can be decoded",
        "half-header.wav": nothing,
        "then-random.flac": nothing,
        "then-random.ogg": nothing,
        **shares(folder, "good.wav", CUT_WAV),
        **shares(folder, "good.flac", CUT_FLAC),
        **shares(folder, "good.mp3", CUT_MP3),
        **shares(folder, "good.ogg", CUT_OGG),
        **shares(folder, "good.m4a", CUT_M4A),
        **entries(folder, ".wav"),
    }


LESS = "of 1.20 seconds can be decoded, less than half"
CUT_WAV = {"cut-10.wav": LESS, "cut-49.wav": LESS, "cut-51.wav": FINE, "cut-90.wav": FINE}
CUT_FLAC = {"cut-10.flac": LESS, "cut-90.flac": FINE}
CUT_MP3 = {"cut-10.mp3": LESS, "cut-60.mp3": FINE, "cut-90.mp3": FINE}
CUT_OGG = {"cut-10.ogg": "no sample|neither sound", "cut-90.ogg": FINE}
CUT_M4A = {"cut-10.m4a": "neither sound", "cut-90.m4a": "neither sound"}
