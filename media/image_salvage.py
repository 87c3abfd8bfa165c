"""What is left of an image that is cut off or damaged: its pixels, and how many rows are there.

Pillow has a switch for such files, but it holds for the whole process and does not say what is
missing. Here an image is decoded twice, into memory that is all 0 and into memory that is all 255:
a row that comes out the same was decoded, another was not.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

ROW_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "PPM")
"""Formats that Pillow decodes row by row. Of others nothing is left when their end is missing."""

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"

_JPEG_SPARE = bytes(8)
"""Libjpeg reads some bytes ahead: without them the last rows before the cut are not decoded."""

_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
"""Markers of a frame whose scans refine each other (ITU-T T.81, table B.1)."""

_SCAN = 0xDA
"""Marker before a scan."""

_ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers without a length: TEM, RST0 to RST7, SOI."""

_LAST_FREQUENCY = 63
"""Of the coefficients of a block, 0-based."""


@dataclass(frozen=True)
class SalvagedImage:
    """What could be decoded.

    Attributes:
        image: loaded; rows that are missing are 0.
        rows: how many are there.
    """

    image: Image.Image
    rows: int


def salvage(content: bytes, check: Callable[[Image.Image], None]) -> SalvagedImage | None:
    """Decode what is there of an image.

    A progressive JPEG shows all of its rows, but blurred at first: they count once all frequencies
    of the brightness have been read.

    Args:
        content: of the file.
        check: raises if the image, which is not decoded yet, is too large.

    Returns:
        None if it is of another format than `ROW_FORMATS`, or its header is damaged.

    Raises:
        Exception: what `check` or Pillow's readers raise.
    """
    if content.startswith(_JPEG_START):
        scans = _progressive_scans(content)
        if scans is not None:
            return _salvage_progressive(content, scans, check)
        content += _JPEG_SPARE
    image = _decode_onto(content, 255, check)
    if image is None:
        return None
    before = _row_sums(image)
    del image  # two of the largest would need too much memory
    image = _decode_onto(content, 0, check)
    if image is None:
        return None
    rows = sum(one == other for one, other in zip(before, _row_sums(image), strict=True))
    return SalvagedImage(image, rows)


def _decode_onto(
    content: bytes, value: int, check: Callable[[Image.Image], None]
) -> Image.Image | None:
    """Decode as far as possible; what is not decoded has this value in each band.

    Returns:
        None if Pillow takes other memory than it was given.
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
    except Exception:  # noqa: BLE001 - Pillow's readers raise almost any class on damaged files
        image.tile = []  # what there is counts as loaded
    return image if image.im is memory else None


def _row_sums(image: Image.Image) -> list[int]:
    """A checksum of each row."""
    width, height = image.size
    return [zlib.crc32(image.crop((0, row, width, row + 1)).tobytes()) for row in range(height)]


def _salvage_progressive(
    content: bytes, scans: list[tuple[int, int]], check: Callable[[Image.Image], None]
) -> SalvagedImage | None:
    # The last scan may have been cut off.
    if not any(component == 0 and last == _LAST_FREQUENCY for component, last in scans[:-1]):
        return None
    image = Image.open(BytesIO(content + _JPEG_END), formats=ROW_FORMATS)
    check(image)
    image.load()
    return SalvagedImage(image, image.height)


def _progressive_scans(content: bytes) -> list[tuple[int, int]] | None:
    """Of each scan of a progressive JPEG its first component, 0-based, and highest frequency.

    Returns:
        None for other JPEG files.
    """
    components = b""
    scans = list[tuple[int, int]]()
    place = len(_JPEG_START)
    while (place := content.find(b"\xff", place)) >= 0 and place + 4 <= len(content):
        marker = content[place + 1]
        if marker in (0x00, 0xFF, *_ALONE):
            place += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place + 4 : place + 2 + length]
        if marker in _PROGRESSIVE:
            components = segment[6::3]
        elif marker == _SCAN and components and len(segment) >= 6:
            scans.append((components.find(segment[1]), segment[-2]))
        place += 2 + length
    return scans if components else None
