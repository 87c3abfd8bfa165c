"""Photos, clips and recordings as data addresses, small enough to stand inside a page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps

from epalm.tasks.records import MediaItem

SIDE_AT_MOST = 320
"""Pixels of a photo's longer side."""

BYTES_AT_MOST = 600_000
"""Clips and recordings are embedded whole up to this size."""

COARSE_SIDE = 160
"""Pictures up to this longer side are kept without loss; mostly drawings."""

_JPEG_QUALITY = 80

_PLAYABLE = {
    ".gif": ("image", "image/gif"),
    ".mp4": ("video", "video/mp4"),
    ".webm": ("video", "video/webm"),
    ".ogg": ("audio", "audio/ogg"),
    ".mp3": ("audio", "audio/mpeg"),
    ".wav": ("audio", "audio/wav"),
    ".flac": ("audio", "audio/flac"),
}
"""What browsers play without help."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """A medium inside a page.

    Attributes:
        element: which HTML element shows it; "none" if the page only names it.
        address: a `data:` address; for "none" the reason, as a phrase.
        coarse: a picture so small that it is shown in visible pixels instead of blurred.
    """

    element: Literal["image", "video", "audio", "none"]
    address: str
    coarse: bool = False


def embed(item: MediaItem) -> Embedded:
    """The medium as a `data:` address: photos scaled down, the rest as it is if small enough."""
    if not item.path.is_file():
        return Embedded("none", "its file is no longer there")
    suffix = item.path.suffix.lower()
    if item.modality == "image":
        return _photo(item.path)
    if suffix not in _PLAYABLE:
        return Embedded("none", f"browsers cannot play {suffix or 'this'} files")
    if item.path.stat().st_size > BYTES_AT_MOST:
        return Embedded("none", "its file is too large to be embedded")
    element, mime = _PLAYABLE[suffix]
    return Embedded(element, _address(item.path.read_bytes(), mime))  # type: ignore[arg-type]


def _photo(path: Path) -> Embedded:
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * SIDE_AT_MOST, 2 * SIDE_AT_MOST))
            photo = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return Embedded("none", f"it cannot be decoded ({type(error).__name__})")
    out = io.BytesIO()
    if max(photo.size) <= COARSE_SIDE:
        photo.save(out, "PNG")
        return Embedded("image", _address(out.getvalue(), "image/png"), coarse=True)
    photo.thumbnail((SIDE_AT_MOST, SIDE_AT_MOST))
    photo.save(out, "JPEG", quality=_JPEG_QUALITY)
    return Embedded("image", _address(out.getvalue(), "image/jpeg"))


def _address(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
