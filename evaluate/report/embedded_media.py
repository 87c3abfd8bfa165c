"""Photos, clips and recordings as data addresses, small enough to stand inside a page."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from epalm.errors import MediaError
from epalm.media.image_decode import decode_image
from epalm.media.media_preview import (
    EXCERPT_SECONDS,
    READ_ERRORS,
    SPECTRUM_HZ,
    encode_mp3,
    read_audio_excerpt,
    sample_frames,
    spectrogram,
    video_codec_and_side,
)
from epalm.tasks.types import MediaItem

SIDE_AT_MOST = 320
"""Pixels of a photo's longer side."""

BYTES_AT_MOST = 600_000
"""Clips and recordings are embedded whole up to this size."""

COARSE_SIDE = 160
"""Pictures up to this longer side are shown in visible pixels; mostly drawings."""

STRIP_FRAMES = 6
"""Of a clip, in a row."""

STRIP_SIDE = 160
"""Pixels of the longer side of each of them."""

_GAP = 2
"""Pixels between them."""

_JPEG_QUALITY = 80

Element = Literal["image", "video", "audio", "none"]

_PLAYABLE: dict[str, tuple[Element, str]] = {
    ".gif": ("image", "image/gif"),
    ".mp4": ("video", "video/mp4"),
    ".m4v": ("video", "video/mp4"),
    ".webm": ("video", "video/webm"),
    ".ogg": ("audio", "audio/ogg"),
    ".opus": ("audio", "audio/ogg"),
    ".mp3": ("audio", "audio/mpeg"),
    ".m4a": ("audio", "audio/mp4"),
    ".wav": ("audio", "audio/wav"),
    ".flac": ("audio", "audio/flac"),
}
"""Endings of what browsers play without help."""

_CODECS = frozenset(("gif", "h264", "vp8", "vp9", "av1"))
"""Of pictures, likewise."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A medium inside a page.

    Attributes:
        element: which HTML element shows it; "none" if there is nothing but the strip.
        address: a `data:` address; for "none" the reason, as a phrase.
        note: what is shown, as a phrase, where it is not the whole medium; else empty.
        coarse: pictures so small that they are shown in visible pixels instead of blurred.
        strip: a `data:` address of a picture of the medium over time, i.e. frames in a row or a
            spectrogram; empty for none.
        strip_alt: what that is, as a phrase.
    """

    element: Element
    address: str
    note: str = ""
    coarse: bool = False
    strip: str = ""
    strip_alt: str = ""


def embed(item: MediaItem) -> Embedded:
    """The medium as a `data:` address.

    Photos are scaled down. Of clips there are frames in a row, of recordings a spectrogram; both
    stand there whole if they are small and browsers play them, else recordings with their
    beginning. A clip whose modality is "audio" is a recording: its pictures are not shown.
    """
    if not item.path.is_file():
        return Embedded("none", "its file is no longer there")
    try:
        if item.modality == "image":
            return _photo(item)
        return _clip(item.path) if item.modality == "video" else _recording(item.path)
    except MediaError as error:
        return Embedded("none", f"it cannot be decoded ({error})")
    except READ_ERRORS as error:
        return Embedded("none", f"it cannot be decoded ({type(error).__name__})")


def _photo(item: MediaItem) -> Embedded:
    picture = decode_image(item.path, item.part, draft_side=2 * SIDE_AT_MOST)
    coarse = max(picture.size) <= COARSE_SIDE
    picture.thumbnail((SIDE_AT_MOST, SIDE_AT_MOST))
    return Embedded("image", _png(picture) if coarse else _jpeg(picture), coarse=coarse)


def _clip(path: Path) -> Embedded:
    codec, side = video_codec_and_side(path)
    coarse = side <= COARSE_SIDE
    frames = sample_frames(path, STRIP_FRAMES)
    strip = _in_a_row(frames)
    alt = f"{len(frames)} frames, evenly spread over the clip"
    shown: tuple[Element, str] = ("none", "it is too large, or browsers do not play it")
    if _playable(path) and codec in _CODECS:
        shown = _whole(path)
    drawn = _png(strip) if coarse else _jpeg(strip)
    return Embedded(*shown, coarse=coarse, strip=drawn, strip_alt=alt)


def _recording(path: Path) -> Embedded:
    samples = read_audio_excerpt(path)
    note = ""
    if _playable(path) and _PLAYABLE[path.suffix.lower()][0] == "audio":
        element, address = _whole(path)
    else:
        element, address = "audio", _address(encode_mp3(samples), "audio/mpeg")
        note = f"the first {EXCERPT_SECONDS:g} seconds at most"
    strip = _jpeg(spectrogram(samples))
    band = f"spectrogram up to {SPECTRUM_HZ / 1000:g} kHz"
    alt = f"{band}, of the first {EXCERPT_SECONDS:g} seconds at most"
    return Embedded(element, address, note, strip=strip, strip_alt=alt)


def _playable(path: Path) -> bool:
    return path.stat().st_size <= BYTES_AT_MOST and path.suffix.lower() in _PLAYABLE


def _whole(path: Path) -> tuple[Element, str]:
    element, mime = _PLAYABLE[path.suffix.lower()]
    return element, _address(path.read_bytes(), mime)


def _in_a_row(frames: Sequence[Image.Image]) -> Image.Image:
    """Side by side, all as large as the first."""
    first = frames[0].copy()
    first.thumbnail((STRIP_SIDE, STRIP_SIDE))
    width, height = first.size
    row = Image.new("RGB", (len(frames) * (width + _GAP) - _GAP, height), "white")
    for place, frame in enumerate(frames):
        row.paste(frame.resize((width, height)), (place * (width + _GAP), 0))
    return row


def _png(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return _address(out.getvalue(), "image/png")


def _jpeg(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_JPEG_QUALITY)
    return _address(out.getvalue(), "image/jpeg")


def _address(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
