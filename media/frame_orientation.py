"""Rotate and mirror video frames as the display matrix of their container specifies."""

import struct
from typing import Any

from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from numpy.typing import NDArray

Matrix = tuple[int, int, int, int]
"""(a, b, c, d): the pixel at column x, row y of the stored frame is displayed at column a x + c y,
row b x + d y (ISO/IEC 14496-12, section 6.2.2), up to an offset and a common factor."""

UPRIGHT: Matrix = (1, 0, 0, 1)


def display_matrix(frame: VideoFrame) -> Matrix:
    """Return the display matrix of a frame; `UPRIGHT` if the container has none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(data, SideData):
        return UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    return a, b, c, d


def is_transposed(matrix: Matrix) -> bool:
    """Whether the matrix swaps rows and columns, and so width and height."""
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def apply_matrix(pixels: NDArray[Any], matrix: Matrix) -> NDArray[Any]:
    """Rotate and mirror a frame; other angles are rounded to the nearest multiple of 90 degrees.

    Args:
        pixels: stored frame, (height, width, ...).
        matrix: display matrix of the frame.

    Returns:
        A view of `pixels`: (height, width, ...), or (width, height, ...) if transposed.
    """
    a, b, c, d = matrix
    if is_transposed(matrix):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    rows, columns = (slice(None, None, -1 if sign < 0 else 1) for sign in (d, a))
    return pixels[rows, columns]
