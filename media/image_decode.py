"""Photos from files: whatever the file holds comes out as an upright RGB image, or as one reason.

Every encoder sees the same pixels: EXIF orientation is applied, transparency is laid on white, the
first frame of an animation counts, unsigned 16-bit greyscale is scaled to 8 bits, and other
greyscale beyond 8 bits is refused. An image that is cut off or damaged is accepted if at least half
of its rows can be decoded. Colour profiles are ignored, as by the published code. PIL itself reads
16-bit colour as the high byte of each value (at most one level of 256 below the rounded value) and
takes every CMYK JPEG for inverted, as Adobe writes them.
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
from epalm.media.image_salvage import SalvagedImage, salvage
from epalm.media.png_chunks import TEXTS, strip_damaged_metadata

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What PIL may try; its other readers run outside programs (EPS) or hold no photos."""

IMAGE_POLICY = "exif upright, alpha on white, first frame, 16-bit grey / 257"
"""The rules above in one line, for the fingerprint of a store."""

MAX_PIXELS = 110_000_000
"""A photo with more pixels is refused by its header, before memory is taken for it.

The sensors of telephones end at 108 million, save a few at 200. Decoding, turning upright and the
way to RGB take up to 12 bytes a pixel (progressive CMYK JPEG, grey with alpha), that is 1.3 GB.
"""

MAX_PIXELS_BY_FORMAT = {"WEBP": 60_000_000, "JPEG2000": 60_000_000}
"""Lower limits for formats whose libraries decode into buffers of their own: 16 to 19 bytes a
pixel, that is 1.1 GB."""

MAX_FILE_BYTES = 500_000_000
"""A larger file is not opened: some of PIL's readers take it into memory whole. Uncompressed, the
largest accepted photo has 330 MB."""

LEAST_SHARE = 0.5
"""An image of which a smaller share of rows can be decoded is refused."""

TIFF_BITS, TIFF_WHITE = 258, 262
"""Tags of a TIFF: bits of each value; whether the value 0 is white (0) or black (1)."""

_STRIP_ROWS = 256
"""Rows converted at once where numpy needs more memory than the photo itself."""


class _Refused(ValueError):
    """An image that is whole, but not accepted."""


class FilePart(Protocol):
    """Some bytes of a file that are an image of their own, e.g. an entry of a tar file."""

    @property
    def offset(self) -> int:
        """Position of the first byte."""

    @property
    def nbytes(self) -> int:
        """Number of bytes."""

    def read(self, path: Path) -> bytes:
        """Return the bytes; raise OSError if the file cannot be read or ends before them."""


def decode_image(
    path: Path, part: FilePart | None = None, *, draft_side: int | None = None
) -> Image.Image:
    """Decode the photo in `path`, or in a part of it.

    Args:
        path: the file; its ending does not matter.
        part: the bytes of the file that are the photo; None for all of them.
        draft_side: a preview is enough: a JPEG may be decoded at a half, a quarter or an eighth of
            its size as long as both sides keep this many pixels. None decodes every pixel.

    Returns:
        Mode RGB, upright, of its own size.

    Raises:
        MediaError: no such file, not a photo, truncated, or larger than the limits
            above. The message is one line and names the file.
    """
    name, nbytes = path.name, check_regular_file(path)
    if part is not None:
        name, nbytes = f"{path.name} from byte {part.offset} on", part.nbytes
    if nbytes > MAX_FILE_BYTES:
        raise MediaError(f"{name}: {nbytes} bytes, the limit is {MAX_FILE_BYTES}")
    try:
        # PIL warns about odd metadata of photos that it decodes all the same.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(path, part, name=name, draft_side=draft_side)
    except MediaError:
        raise
    except UnidentifiedImageError as error:
        wanted = ", ".join(IMAGE_FORMATS)
        raise MediaError(f"{name}: not a photo, wanted one of {wanted}") from error
    except Exception as error:
        # PIL's readers raise almost any class on damaged files; none may end a long run.
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
    except (_Refused, MemoryError):
        raise
    except Exception:
        content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
        bare = strip_damaged_metadata(BytesIO(content), leave_out=TEXTS)
        salvaged = salvage(bare.getvalue() if bare else content, _check_size)
        if salvaged is None:
            raise
        _check_rows(salvaged, name)
        return _upright_rgb(salvaged.image)


def _check_rows(salvaged: SalvagedImage, name: str) -> None:
    """Note that an image is incomplete.

    Raises:
        MediaError: more than half of its rows are missing.
    """
    found = f"{name}: damaged or cut off, {salvaged.rows} of {salvaged.image.height} rows"
    if salvaged.rows < LEAST_SHARE * salvaged.image.height:
        raise MediaError(f"{found} can be decoded")
    note_damage(f"{found} can be decoded")


def _upright_rgb(image: Image.Image) -> Image.Image:
    ImageOps.exif_transpose(image, in_place=True)
    return _to_rgb(image)


def check_regular_file(path: Path) -> int:
    """Refuse by its entry in the folder what must not be opened: a pipe would block for ever.

    Returns:
        Its size in bytes.

    Raises:
        MediaError: not a file, empty, or not to be reached.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MediaError(f"{path.name}: no such file") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"{path.name}: cannot be reached ({reason})") from error
    if not stat.S_ISREG(found.st_mode):
        raise MediaError(f"{path.name}: not a file")
    if found.st_size == 0:
        raise MediaError(f"{path.name}: the file is empty")
    return found.st_size


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    limit = MAX_PIXELS_BY_FORMAT.get(image.format or "", MAX_PIXELS)
    if width * height > limit:
        raise _Refused(f"{width} x {height} exceeds limit of {limit} pixels")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "I;16" or (image.mode == "I" and image.format == "PPM"):
        return _grey_16_to_8(image).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        kind = "floating-point" if image.mode == "F" else "signed or 32-bit"
        raise _Refused(
            f"its values are {kind} numbers, of which none is known to be white: save it with 8 or "
            "16 bits"
        )
    if image.has_transparency_data:
        return flatten(image if image.mode == "RGBA" else image.convert("RGBA"))
    # PIL would copy a photo that is RGB already.
    return image if image.mode == "RGB" else image.convert("RGB")


def flatten(layer: Image.Image) -> Image.Image:
    """A picture of mode RGBA on white, mode RGB."""
    white = Image.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer)
    return white


def _grey_16_to_8(image: Image.Image) -> Image.Image:
    """Scale 0..65535 to 0..255; PIL's own conversion would cut every value at 255."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(TIFF_BITS, (16,))[0]
    if bits != 16:
        raise _Refused(f"its values have {bits} bits, accepted are 8 and 16")
    if tags.get(TIFF_WHITE) == 0:  # PIL inverts 8 bits alone
        values = np.uint16(65535) - values
    scaled = np.empty(values.shape, dtype=np.uint8)
    for top in range(0, len(values), _STRIP_ROWS):
        strip = slice(top, top + _STRIP_ROWS)
        scaled[strip] = np.rint(values[strip] / 257)
    return Image.fromarray(scaled)
