"""Photos from files: whatever the file holds comes out as an upright RGB image, or as one reason.

Every encoder sees the same pixels: EXIF orientation is applied, transparency is laid on white, the
first frame of an animation counts, 16-bit greyscale is scaled to 8 bits. Colour profiles are
ignored, as by the published code.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from epalm.errors import MediaError

PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What PIL may try; its other readers run outside programs (EPS) or hold no photos."""

DECODE_POLICY = "exif upright, alpha on white, first frame, 16-bit grey / 257"
"""The rules above in one line, for the fingerprint of a store."""


def decode_photo(path: Path) -> Image.Image:
    """The photo in `path`: mode RGB, upright, own size.

    Raises:
        MediaError: no such file, not a photo, truncated, or more pixels than PIL's limit against
            decompression bombs (178,956,970). The message is one line and names the file.
    """
    if not path.is_file():
        raise MediaError(f"{path.name}: {'not a file' if path.exists() else 'no such file'}")
    if path.stat().st_size == 0:
        raise MediaError(f"{path.name}: the file is empty")
    try:
        # PIL warns about odd metadata of photos that it decodes all the same.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=PHOTO_FORMATS) as image:
                return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        wanted = ", ".join(PHOTO_FORMATS)
        raise MediaError(f"{path.name}: not a photo, wanted one of {wanted}") from error
    except Exception as error:
        # PIL's readers raise almost any class on damaged files; none may end a long run.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{path.name}: cannot be decoded ({reason})") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_16_to_8(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _grey_16_to_8(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; PIL's own conversion would cut every value at 255."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"{image.mode} greyscale beyond 16 bits has no defined range")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))
