"""MP4 files whose edit list or display matrix is another than FFmpeg's muxer writes."""

import struct
from collections.abc import Sequence
from pathlib import Path

_FOLDERS = (b"moov", b"trak", b"edts")


def set_edits(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Give an MP4 of one track at 10 Hz another edit list.

    Args:
        path: written by FFmpeg, so that its boxes of samples do not move.
        edits: of each the number of frames shown, and the first one; -1 for showing nothing.
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


def set_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Give the track of an MP4 the matrix (a, b, c, d)."""
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (entry << 16 for entry in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


def _replaced(content: bytes, name: bytes, body: bytes) -> bytes:
    """The boxes with another body in that of this name."""
    out, place = b"", 0
    while place < len(content):
        size, kind = struct.unpack(">I4s", content[place : place + 8])
        inner = content[place + 8 : place + size]
        if kind == name:
            inner = body
        elif kind in _FOLDERS:
            inner = _replaced(inner, name, body)
        out += struct.pack(">I4s", len(inner) + 8, kind) + inner
        place += size
    return out
