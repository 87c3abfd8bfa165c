"""Photos, clips and recordings as data addresses, small enough to stand inside a page."""

import base64
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from epalm.evaluate.excerpts import (
    READ_ERRORS,
    SECONDS,
    first_seconds,
    kind_of_pictures,
    middle_frame,
)
from epalm.tasks.records import MediaItem

SIDE_AT_MOST = 320
"""Pixels of a photo's longer side."""

BYTES_AT_MOST = 600_000
"""Clips and recordings are embedded whole up to this size."""

COARSE_SIDE = 160
"""Pictures up to this longer side are shown in visible pixels; mostly drawings."""

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
        element: which HTML element shows it; "none" if the page only names it.
        address: a `data:` address; for "none" the reason, as a phrase.
        note: what is shown, as a phrase, where it is not the whole medium; else empty.
        coarse: pictures so small that they are shown in visible pixels instead of blurred.
    """

    element: Element
    address: str
    note: str = ""
    coarse: bool = False


def embed(item: MediaItem) -> Embedded:
    """The medium as a `data:` address.

    Photos are scaled down. Clips and recordings stand as they are if they are small and browsers
    play them; else there is a frame of the clip, or the beginning of the recording.
    """
    if not item.path.is_file():
        return Embedded("none", "its file is no longer there")
    ways = {"image": _photo, "video": _clip, "audio": _recording}
    try:
        return ways[item.modality](item.path)
    except READ_ERRORS as error:
        return Embedded("none", f"it cannot be decoded ({type(error).__name__})")


def _photo(path: Path) -> Embedded:
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * SIDE_AT_MOST, 2 * SIDE_AT_MOST))
            return _picture(ImageOps.exif_transpose(opened).convert("RGB"))
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error


def _clip(path: Path) -> Embedded:
    if _small(path) and path.suffix.lower() in _PLAYABLE:
        codec, side = kind_of_pictures(path)
        if codec in _CODECS:
            return replace(_whole(path), coarse=side <= COARSE_SIDE)
    return replace(_picture(middle_frame(path)), note="the frame in the middle of the clip")


def _recording(path: Path) -> Embedded:
    if _small(path) and path.suffix.lower() in _PLAYABLE:
        return _whole(path)
    note = f"the first {SECONDS:g} seconds at most"
    return Embedded("audio", _address(first_seconds(path), "audio/mpeg"), note)


def _small(path: Path) -> bool:
    return path.stat().st_size <= BYTES_AT_MOST


def _whole(path: Path) -> Embedded:
    element, mime = _PLAYABLE[path.suffix.lower()]
    return Embedded(element, _address(path.read_bytes(), mime))


def _picture(picture: Image.Image) -> Embedded:
    """Without loss if it is small, else scaled down."""
    out = io.BytesIO()
    if max(picture.size) <= COARSE_SIDE:
        picture.save(out, "PNG")
        return Embedded("image", _address(out.getvalue(), "image/png"), coarse=True)
    picture.thumbnail((SIDE_AT_MOST, SIDE_AT_MOST))
    picture.save(out, "JPEG", quality=_JPEG_QUALITY)
    return Embedded("image", _address(out.getvalue(), "image/jpeg"))


def _address(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
