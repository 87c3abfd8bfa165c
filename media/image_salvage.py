"""Decode what remains of a truncated or damaged image, and count its intact rows.

Pillow's LOAD_TRUNCATED_IMAGES applies to the whole process and does not report what is missing.
Here an image is decoded twice, into memory filled with 0 and into memory filled with 255: a row
was decoded if both results agree.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

ROW_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "PPM")
"""Formats that Pillow decodes row by row. Truncated files of other formats cannot be salvaged."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

_JPEG_SPARE = bytes(8)
"""libjpeg reads some bytes ahead: this padding makes it decode the last rows before the end."""

_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
"""Start-of-frame markers of progressive JPEG (ITU-T T.81, table B.1)."""

_SCAN = 0xDA
"""Start-of-scan marker."""

_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
"""Markers without a length field: TEM, RST0 to RST7, SOI."""

_LAST_FREQUENCY = 63
"""Index of the last DCT coefficient of a block, 0-based."""


@dataclass(frozen=True)
class SalvagedImage:
    """The decoded part of an image.

    Attributes:
        image: a loaded image; missing rows are 0.
        rows: number of rows that were decoded.
    """

    image: Image.Image
    rows: int


def salvage_image(content: bytes, check: Callable[[Image.Image], None]) -> SalvagedImage | None:
    """Decode as much of an image as possible.

    A progressive JPEG has all of its rows, blurred at first: they count as decoded once all
    frequencies of the luma channel have been read.

    Args:
        content: the bytes of the file.
        check: raises an error if the image, which is not decoded yet, is too large.

    Returns:
        The salvaged image; None if its format is not one of `ROW_FORMATS`, or its header is
        damaged.

    Raises:
        Exception: any error of `check` or of Pillow.
    """
    if content.startswith(_JPEG_START):
        scans = _progressive_scans(content)
        if scans is not None:
            return _salvage_progressive(content, scans, check)
        content += _JPEG_SPARE
    image = _decode_onto(content, 255, check)
    if image is None:
        return None
    white_sums = _row_sums(image)
    del image  # two of the largest images would need too much memory
    image = _decode_onto(content, 0, check)
    if image is None:
        return None
    rows = sum(white == black for white, black in zip(white_sums, _row_sums(image), strict=True))
    return SalvagedImage(image, rows)


def _decode_onto(
    content: bytes, value: int, check: Callable[[Image.Image], None]
) -> Image.Image | None:
    """Decode as far as possible; pixels that are not decoded have this value in each band.

    Returns:
        The image; None if Pillow decoded into memory of its own instead.
    """
    image = Image.open(BytesIO(content), formats=ROW_FORMATS)
    check(image)
    bands = len(image.getbands())
    memory = Image.new(image.mode, image.size, value if bands == 1 else (value,) * bands).im
    image.im = memory
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises almost any class on damaged files
        image.tile = []  # makes Pillow treat the image as loaded
    return image if image.im is memory else None


def _row_sums(image: Image.Image) -> list[int]:
    """A checksum for each row."""
    width, height = image.size
    return [zlib.crc32(image.crop((0, row, width, row + 1)).tobytes()) for row in range(height)]


def _salvage_progressive(
    content: bytes, scans: list[tuple[int, int]], check: Callable[[Image.Image], None]
) -> SalvagedImage | None:
    # The last scan may be incomplete.
    if not any(component == 0 and last == _LAST_FREQUENCY for component, last in scans[:-1]):
        return None
    image = Image.open(BytesIO(content + _JPEG_END), formats=ROW_FORMATS)
    check(image)
    image.load()
    return SalvagedImage(image, image.height)


def _progressive_scans(content: bytes) -> list[tuple[int, int]] | None:
    """List the first component (0-based) and the highest frequency of each progressive scan.

    Returns:
        One pair per scan; None if the JPEG is not progressive.
    """
    components = b""
    scans = list[tuple[int, int]]()
    position = len(_JPEG_START)
    while (position := content.find(b"\xff", position)) >= 0 and position + 4 <= len(content):
        marker = content[position + 1]
        if marker in (0x00, 0xFF, *_WITHOUT_LENGTH):
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position + 4 : position + 2 + length]
        if marker in _PROGRESSIVE:
            components = segment[6::3]
        elif marker == _SCAN and components and len(segment) >= 6:
            scans.append((components.find(segment[1]), segment[-2]))
        position += 2 + length
    return scans if components else None
