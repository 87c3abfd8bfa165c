"""Checksums of a PNG's chunks: damage to metadata is passed over, damage to pixels is refused."""

import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks that pixels do not depend on, and of which Pillow refuses large ones."""

_ANCILLARY = 0x20
"""Bit of the first byte of a chunk's name: decoders may do without it (PNG 3, section 5.4)."""

_BLOCK_BYTES = 1 << 20
"""Bytes of a chunk in memory at once."""


def strip_damaged_metadata(file: BinaryIO, *, leave_out: tuple[bytes, ...] = ()) -> BytesIO | None:
    """Leave out the ancillary chunks of a PNG whose checksum is wrong, as browsers do.

    Args:
        file: any image, at its beginning. What follows a chunk that is cut off is not looked at.
        leave_out: names of chunks to leave out in any case.

    Returns:
        The PNG without them; None if there are none, or the file is not a PNG.

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
            raise ValueError(f"the checksum of its {kind.decode('ascii', 'replace')!r} is wrong")
        damaged.append((start, end))
    if not damaged:
        return None
    file.seek(0)
    content = bytearray(file.read())
    for start, end in reversed(damaged):
        del content[start:end]
    return BytesIO(bytes(content))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int, bool]]:
    """Name, first byte, end, and whether the checksum is right, of each chunk that is whole."""
    start = file.tell()
    while len(head := file.read(8)) == 8:
        left, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = start + 12 + left
        checksum = zlib.crc32(kind)
        while left:
            block = file.read(min(left, _BLOCK_BYTES))
            if not block:
                return
            checksum = zlib.crc32(block, checksum)
            left -= len(block)
        stored = file.read(4)
        if len(stored) < 4:
            return
        yield kind, start, end, int.from_bytes(stored, "big") == checksum
        start = end
        if kind == b"IEND":
            return
