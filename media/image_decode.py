"""Decode image files to upright RGB images.

The result does not depend on the encoder: EXIF orientation is applied, transparency is composited
on white, the first frame of an animation is used, and unsigned 16-bit grayscale is scaled to 8
bits. Other grayscale beyond 8 bits is refused. A truncated or damaged image is accepted if at least
half of its rows can be decoded. Color profiles are ignored, as in the official implementation.

Pillow reduces 16-bit color to the high byte of each value (at most one of 256 levels below the
rounded value), and reads every CMYK JPEG as inverted, as Adobe writes them.
"""

import stat
import warnings
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from epalm.errors import MediaError
from epalm.media.decode_damage import note_damage
from epalm.media.image_salvage import SalvagedImage, salvage_image
from epalm.media.png_chunks import TEXT_CHUNKS, strip_damaged_metadata

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow plugins that may be tried; the others run external programs (EPS) or read other data."""

IMAGE_POLICY = "exif upright, alpha on white, first frame, 16-bit grey / 257"
"""How this module decodes, in one line; part of a store's fingerprint."""

MAX_PIXELS = 110_000_000
"""An image whose header has more pixels is refused before memory is allocated.

Most phone cameras have at most 108 megapixels, a few have 200. Decoding, rotation and conversion to
RGB need up to 12 bytes per pixel (progressive CMYK JPEG, grayscale with alpha): 1.3 GB.
"""

MAX_PIXELS_BY_FORMAT = {"WEBP": 60_000_000, "JPEG2000": 60_000_000}
"""Lower limits for formats whose libraries decode into buffers of their own: 16 to 19 bytes per
pixel, 1.1 GB."""

MAX_FILE_BYTES = 500_000_000
"""A larger file is not opened, since some Pillow plugins read whole files into memory. The largest
accepted image has 330 MB uncompressed."""

MIN_DECODED_FRACTION = 0.5
"""An image is refused if a smaller fraction of its rows can be decoded."""

TIFF_BITS_PER_SAMPLE, TIFF_PHOTOMETRIC = 258, 262
"""TIFF tags. The photometric interpretation is 0 if the value 0 is white, 1 if it is black."""

_STRIP_ROWS = 256
"""Number of rows converted at once, to bound numpy's temporary memory."""


class _UnsupportedImageError(ValueError):
    """The image is intact, but its size or its pixel type is not accepted."""


class FilePart(Protocol):
    """A byte range of a file that contains one image, e.g. a member of a tar file."""

    @property
    def offset(self) -> int:
        """Position of the first byte in the file."""

    @property
    def nbytes(self) -> int:
        """Number of bytes."""

    def read(self, path: Path) -> bytes:
        """Return the bytes; raise OSError if the file cannot be read or is too short."""


def decode_image(
    path: Path, part: FilePart | None = None, *, draft_side: int | None = None
) -> Image.Image:
    """Decode an image file, or a part of a file.

    Args:
        path: the file; its extension is ignored.
        part: the bytes of the file that contain the image; None for the whole file.
        draft_side: for previews, decode a JPEG at a half, a quarter or an eighth of its size as
            long as both sides keep at least this many pixels. None decodes at full size.

    Returns:
        An upright image of mode RGB.

    Raises:
        MediaError: the file is missing, not an image, mostly damaged, or larger than the limits
            above. The message is one line and names the file.
    """
    name, nbytes = path.name, check_regular_file(path)
    if part is not None:
        name, nbytes = f"{path.name}, image at byte {part.offset}", part.nbytes
    if nbytes > MAX_FILE_BYTES:
        raise MediaError(f"{name}: {nbytes} bytes exceed the limit of {MAX_FILE_BYTES}")
    try:
        # Pillow warns about malformed metadata of images that it can decode.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(path, part, name=name, draft_side=draft_side)
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        supported = ", ".join(IMAGE_FORMATS)
        raise MediaError(f"{name}: not a supported image (supported: {supported})") from error
    except Exception as error:
        # Pillow raises almost any class on damaged files; none may end a long run.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{name}: cannot be decoded ({reason})") from error


def _decode(path: Path, part: FilePart | None, *, name: str, draft_side: int | None) -> Image.Image:
    source: Path | BytesIO = path if part is None else BytesIO(part.read(path))
    with path.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        source = strip_damaged_metadata(file) or source
    if isinstance(source, BytesIO):
        source.seek(0)
    try:
        with Image.open(source, formats=IMAGE_FORMATS) as image:
            _check_size(image)
            if draft_side is not None:
                image.draft("RGB", (draft_side, draft_side))
            return _upright_rgb(image)
    except (_UnsupportedImageError, MemoryError):
        raise
    except Exception:
        content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
        bare = strip_damaged_metadata(BytesIO(content), leave_out=TEXT_CHUNKS)
        salvaged = salvage_image(bare.getvalue() if bare else content, _check_size)
        if salvaged is None:
            raise
        _check_rows(salvaged, name)
        return _upright_rgb(salvaged.image)


def _check_rows(salvaged: SalvagedImage, name: str) -> None:
    """Note that an image is incomplete.

    Raises:
        MediaError: more than half of its rows are missing.
    """
    rows, height = salvaged.rows, salvaged.image.height
    note = f"{name}: damaged or truncated, {rows} of {height} rows can be decoded"
    if rows < MIN_DECODED_FRACTION * height:
        raise MediaError(note)
    note_damage(note)


def _upright_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    return _to_rgb(image)


def check_regular_file(path: Path) -> int:
    """Refuse anything but a regular file that is not empty: opening a pipe would block forever.

    Returns:
        The size of the file in bytes.

    Raises:
        MediaError: the path is not a regular file, is empty, or is not accessible.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"{path.name}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path.name}: not accessible ({reason})") from error
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{path.name}: not a regular file")
    if status.st_size == 0:
        raise MediaError(f"{path.name}: the file is empty")
    return status.st_size


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    limit = MAX_PIXELS_BY_FORMAT.get(image.format or "", MAX_PIXELS)
    if width * height > limit:
        raise _UnsupportedImageError(f"{width} x {height} exceeds the limit of {limit} pixels")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16" or (image.mode == "I" and image.format == "PPM"):
        return _gray_16_to_8(image).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        raise _UnsupportedImageError(
            f"{kind} pixels have no defined white: save the image with 8 or 16 bits per channel"
        )
    if image.has_transparency_data:
        return flatten(image if image.mode == "RGBA" else image.convert("RGBA"))
    # Pillow would copy an image that is RGB already.
    return image if image.mode == "RGB" else image.convert("RGB")


def flatten(layer: Image.Image) -> Image.Image:
    """Composite an RGBA image on white; returns mode RGB."""
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer)
    return white


def _gray_16_to_8(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; Pillow's own conversion would clip values at 255."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TIFF_BITS_PER_SAMPLE, (16,))[0]
    if bits != 16:
        raise _UnsupportedImageError(f"{bits} bits per channel, supported are 8 and 16")
    if tags.get(TIFF_PHOTOMETRIC) == 0:  # Pillow inverts only 8-bit images
        values = np.uint16(65535) - values
    scaled = np.empty(values.shape, dtype=np.uint8)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        scaled[strip] = np.rint(values[strip] / 257)
    return Image.fromarray(scaled)
