"""Video frames and images are rotated and mirrored as players and browsers display them."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epalm.media.image_decode import decode_image
from epalm.media.video_decode import decode_video
from tests.media.file_writers.av_files import write_media
from tests.media.file_writers.mp4_boxes import set_display_matrix

MATRICES = [(a, 0, 0, d) for a, d in product((1, -1), repeat=2)] + [
    (0, b, c, 0) for b, c in product((1, -1), repeat=2)
]
"""All rotations by multiples of 90 degrees, mirrored or not."""

EXIF_ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""EXIF tag -> the sides on which the stored first row and column are displayed (EXIF 2.32)."""


def four_quarters(*, height: int, width: int) -> np.ndarray:
    """(height, width, 3): four quarters of different brightness, dark at the upper left."""
    levels = np.array([[10, 90], [170, 250]], dtype=np.uint8)
    gray = levels.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    return np.stack([gray] * 3, axis=2)


def displayed(stored: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Move each pixel as ISO/IEC 14496-12 defines: (x, y) -> (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    places = {
        (b * x + d * y, a * x + c * y): stored[y, x]
        for y in range(stored.shape[0])
        for x in range(stored.shape[1])
    }
    top, left = (min(place[axis] for place in places) for axis in (0, 1))
    height, width = (max(place[axis] for place in places) for axis in (0, 1))
    out = np.zeros((height - top + 1, width - left + 1, 3), dtype=np.uint8)
    for (row, column), sample in places.items():
        out[row - top, column - left] = sample
    return out


@pytest.mark.parametrize("matrix", MATRICES)
def test_a_video_is_rotated_and_mirrored_by_its_display_matrix(
    matrix: tuple[int, int, int, int], tmp_path: Path
) -> None:
    stored = four_quarters(height=32, width=64)
    path = write_media(tmp_path / "a.mp4", frames=np.stack([stored] * 3))
    set_display_matrix(path, matrix)
    frame = np.asarray(decode_video(path, lambda _: [1]).frames[1], dtype=int)
    expected = displayed(stored, matrix)
    assert frame.shape == expected.shape
    assert np.abs(frame - expected).max() < 40  # levels are 80 apart


@pytest.mark.parametrize("orientation", EXIF_ORIENTATIONS)
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif", ".webp"])
def test_an_image_is_rotated_and_mirrored_by_its_exif_tag(
    orientation: int, ending: str, tmp_path: Path
) -> None:
    stored = four_quarters(height=32, width=64)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"a{ending}", exif=exif)
    row, column = EXIF_ORIENTATIONS[orientation]
    expected = stored if row in ("top", "bottom") else stored.swapaxes(0, 1)
    if "bottom" in (row, column):
        expected = expected[::-1]
    if "right" in (row, column):
        expected = expected[:, ::-1]
    image = np.asarray(decode_image(tmp_path / f"a{ending}"), dtype=int)
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() < 40
