"""Replace the edit list or the display matrix of an MP4 file."""

import struct
from collections.abc import Sequence
from pathlib import Path

_CONTAINER_BOXES = (b"moov", b"trak", b"edts")


def set_edit_list(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Replace the edit list of an MP4 with one track at 10 Hz.

    Args:
        path: file written by FFmpeg, whose sample offsets stay valid.
        edits: (number of frames displayed, index of the first one) per edit; -1 for an empty edit.
    """
    content = path.read_bytes()
    old = content.index(b"elst") + 4
    (first_time,) = struct.unpack(">i", content[old + 12 : old + 16])
    header = content.index(b"mdhd") + 4
    (scale,) = struct.unpack(">I", content[header + 12 : header + 16])
    body = struct.pack(">II", 0, len(edits))
    for count, first in edits:
        time = -1 if first < 0 else first_time + first * scale // 10
        body += struct.pack(">IiI", count * 100, time, 1 << 16)
    path.write_bytes(_replaced(content, b"elst", body))


def set_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Set the display matrix of the track to (a, b, c, d)."""
    content = bytearray(path.read_bytes())
    position = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (entry << 16 for entry in matrix)
    content[position : position + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def _replaced(content: bytes, name: bytes, body: bytes) -> bytes:
    """The boxes with the body of the box of this name replaced."""
    out, position = b"", 0
    while position < len(content):
        size, kind = struct.unpack(">I4s", content[position : position + 8])
        inner = content[position + 8 : position + size]
        if kind == name:
            inner = body
        elif kind in _CONTAINER_BOXES:
            inner = _replaced(inner, name, body)
        out += struct.pack(">I4s", len(inner) + 8, kind) + inner
        position += size
    return out
