"""Check the checksums of PNG chunks: damaged metadata is removed, damaged pixels are refused."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks that do not affect the pixels, and that Pillow refuses if they are large."""

_ANCILLARY = 0x20
"""Bit of the first byte of a chunk's name: the chunk is optional (PNG 3, section 5.4)."""

_BLOCK_BYTES = 1 << 20
"""Number of bytes of a chunk read at once."""


def strip_damaged_metadata(file: BinaryIO, *, leave_out: tuple[bytes, ...] = ()) -> BytesIO | None:
    """Remove the ancillary chunks of a PNG that have a wrong checksum, as browsers do.

    Args:
        file: an image file of any format, at its beginning. Chunks after a truncated one are not
            checked.
        leave_out: names of chunks to remove in any case.

    Returns:
        The PNG without these chunks; None if there are none, or the file is not a PNG.

    Raises:
        ValueError: the checksum of a critical chunk is wrong.
    """
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return None
    damaged = list[tuple[int, int]]()
    for kind, start, end, intact in _chunks(file):
        if intact and kind not in leave_out:
            continue
        if not kind[0] & _ANCILLARY:
            raise ValueError(f"wrong checksum of PNG chunk {kind.decode('ascii', 'replace')!r}")
        damaged.append((start, end))
    if not damaged:
        return None
    file.seek(0)
    content = bytearray(file.read())
    for start, end in reversed(damaged):
        del content[start:end]
    return BytesIO(bytes(content))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yield (name, start, end, whether the checksum is right) of each complete chunk."""
    start = file.tell()
    while len(head := file.read(8)) == 8:
        remaining, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = start + 12 + remaining
        checksum = zlib.crc32(kind)
        while remaining:
            block = file.read(min(remaining, _BLOCK_BYTES))
            if not block:
                return
            checksum = zlib.crc32(block, checksum)
            remaining -= len(block)
        stored = file.read(4)
        if len(stored) < 4:
            return
        yield kind, start, end, int.from_bytes(stored, "big") == checksum
        start = end
        if kind == b"IEND":
            return
