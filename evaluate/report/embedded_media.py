"""Images, videos and audio clips as `data:` URLs, small enough to embed in a page."""

import base64
import io
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
from epalm.media.sample_preview import frames_in_a_row
from epalm.tasks.types import MediaItem

MAX_SIDE = 320
"""Pixels of the longer side of an image."""

MAX_BYTES = 600_000
"""Videos and audio clips are embedded whole up to this size."""

COARSE_SIDE = 160
"""Images up to this longer side, mostly drawings, are shown without smoothing."""

STRIP_FRAMES = 6
"""Number of frames of a video that are shown in a row."""

STRIP_SIDE = 160
"""Pixels of the longer side of each frame in the row."""

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
"""File suffix -> HTML element and MIME type, for formats that browsers play."""

_CODECS = frozenset(("gif", "h264", "vp8", "vp9", "av1"))
"""Video codecs that browsers play."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A sample embedded in a page.

    Attributes:
        element: HTML element that shows it; "none" if there is only the strip, or nothing.
        url: `data:` URL of the content; for "none" the reason, as a phrase.
        note: the shown part, as a phrase, if it is not the whole sample; else empty.
        coarse: whether the image is so small that it is shown without smoothing.
        strip: `data:` URL of an image of the sample over time, i.e. frames in a row or a
            spectrogram; empty for none.
        strip_alt: description of the strip, as a phrase.
    """

    element: Element
    url: str
    note: str = ""
    coarse: bool = False
    strip: str = ""
    strip_alt: str = ""


def embed(item: MediaItem) -> Embedded:
    """Embed a sample as `data:` URLs.

    Images are scaled down. A video is shown as frames in a row, an audio clip as a spectrogram.
    Both are embedded whole if they are small and browsers play them; of other audio clips the
    beginning is embedded. A video file whose modality is "audio" is shown as an audio clip.
    """
    if not item.path.is_file():
        return Embedded("none", "its file no longer exists")
    try:
        if item.modality == "image":
            return _image(item)
        return _video(item.path) if item.modality == "video" else _audio(item.path)
    except MediaError as error:
        return Embedded("none", f"it cannot be decoded ({error})")
    except READ_ERRORS as error:
        return Embedded("none", f"it cannot be decoded ({type(error).__name__})")


def _image(item: MediaItem) -> Embedded:
    image = decode_image(item.path, item.part, draft_side=2 * MAX_SIDE)
    coarse = max(image.size) <= COARSE_SIDE
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return Embedded("image", _png(image) if coarse else _jpeg(image), coarse=coarse)


def _video(path: Path) -> Embedded:
    codec, side = video_codec_and_side(path)
    coarse = side <= COARSE_SIDE
    frames = sample_frames(path, STRIP_FRAMES)
    strip = frames_in_a_row(frames, STRIP_SIDE)
    alt = f"{len(frames)} frames, evenly spread over the video"
    shown: tuple[Element, str] = ("none", "it is too large or not playable in browsers")
    if _playable(path) and codec in _CODECS:
        shown = _whole(path)
    url = _png(strip) if coarse else _jpeg(strip)
    return Embedded(*shown, coarse=coarse, strip=url, strip_alt=alt)


def _audio(path: Path) -> Embedded:
    samples = read_audio_excerpt(path)
    note = ""
    if _playable(path) and _PLAYABLE[path.suffix.lower()][0] == "audio":
        element, url = _whole(path)
    else:
        element, url = "audio", _data_url(encode_mp3(samples), "audio/mpeg")
        note = f"the first {EXCERPT_SECONDS:g} seconds at most"
    strip = _jpeg(spectrogram(samples))
    band = f"spectrogram up to {SPECTRUM_HZ / 1000:g} kHz"
    alt = f"{band}, of the first {EXCERPT_SECONDS:g} seconds at most"
    return Embedded(element, url, note, strip=strip, strip_alt=alt)


def _playable(path: Path) -> bool:
    return path.stat().st_size <= MAX_BYTES and path.suffix.lower() in _PLAYABLE


def _whole(path: Path) -> tuple[Element, str]:
    element, mime = _PLAYABLE[path.suffix.lower()]
    return element, _data_url(path.read_bytes(), mime)


def _png(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return _data_url(out.getvalue(), "image/png")


def _jpeg(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_JPEG_QUALITY)
    return _data_url(out.getvalue(), "image/jpeg")


def _data_url(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
