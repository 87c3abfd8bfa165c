"""Each of the ten operations equals an independent computation of its pixels."""

import math

import numpy as np
import pytest
from PIL import Image

from epalm.extract.transforms import image_augment
from epalm.extract.transforms.image_augment import OPERATIONS

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
BY_NAME = {operation.__name__.removeprefix("_"): operation for operation in OPERATIONS}


def applied(name: str, image: np.ndarray, sign: int = 1) -> np.ndarray:
    return np.asarray(BY_NAME[name](Image.fromarray(image), sign)).astype(int)


def test_the_ten_operations_and_their_magnitudes_are_the_published_ones() -> None:
    assert list(BY_NAME) == [
        *("identity", "autocontrast", "equalize", "brightness", "sharpness"),
        *("shear_horizontally", "shear_vertically", "shift_horizontally", "shift_vertically"),
        "rotate",
    ]
    shift_pixels = 224 * image_augment.SHIFT_FRACTION
    found = [
        image_augment.ENHANCEMENT,
        image_augment.SHEAR,
        image_augment.ROTATION_DEGREES,
        shift_pixels,
    ]
    assert found == pytest.approx([1.36, 0.21, 21, 7])


def test_identity_changes_nothing() -> None:
    assert np.array_equal(applied("identity", IMAGE), IMAGE)


def test_autocontrast_stretches_each_channel_to_the_whole_range() -> None:
    dull = (IMAGE // 4 + [10, 50, 90]).astype(np.uint8)
    low, high = dull.min(axis=(0, 1)), dull.max(axis=(0, 1))
    expected = (dull - low) * (255 / (high - low))
    assert np.abs(applied("autocontrast", dull) - expected).max() <= 1


def test_equalize_maps_each_value_to_the_fraction_of_smaller_values() -> None:
    dark = (IMAGE.astype(float) ** 2 / 255).astype(np.uint8)
    found = applied("equalize", dark)
    for channel in range(3):
        values = dark[..., channel]
        smaller = (values[..., None].reshape(-1, 1) < np.arange(256)).sum(axis=0) / values.size
        error = np.abs(found[..., channel] - 255 * smaller[values])
        # PIL counts in whole steps of 4800 // 255 pixels, 18 instead of 18.8.
        assert error.max() < 255 * (4800 / 255 / 18 - 1) + 2


def test_brightness_multiplies() -> None:
    expected = np.minimum(255, IMAGE * 1.36)
    assert np.abs(applied("brightness", IMAGE) - expected).max() <= 1


def test_sharpness_extrapolates_from_the_blurred_image_except_at_the_border() -> None:
    padded = IMAGE.astype(float)
    blurred = padded.copy()
    sums = sum(padded[1 + dy : 59 + dy, 1 + dx : 79 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    blurred[1:-1, 1:-1] = (sums + 4 * padded[1:-1, 1:-1]) / 13
    expected = np.clip(blurred + 1.36 * (padded - blurred), 0, 255)
    # PIL rounds the blurred image, then cuts off fractions: 0.36 / 2 + 1.
    assert np.abs(applied("sharpness", IMAGE) - expected).max() < 1.18 + 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_shearing_moves_row_y_by_a_fifth_of_y_and_fills_with_gray(sign: int) -> None:
    expected = np.full(IMAGE.shape, np.nan)
    for y, row in enumerate(IMAGE.astype(float)):
        source = np.arange(80) - sign * 0.21 * y
        inside = (source >= 0) & (source <= 79)
        for channel in range(3):
            between = np.interp(source[inside], np.arange(80), row[:, channel])
            expected[y, inside, channel] = between
        outside = (source < -0.5) | (source > 79.5)
        expected[y, outside] = 128
    close(applied("shear_horizontally", IMAGE, sign), expected)
    transposed = applied("shear_vertically", np.ascontiguousarray(IMAGE.transpose(1, 0, 2)), sign)
    close(transposed.transpose(1, 0, 2), expected)


def close(found: np.ndarray, expected: np.ndarray) -> None:
    """Check equality up to PIL's truncation; NaN pixels at the border are not compared."""
    known = ~np.isnan(expected)
    assert known.mean() > 0.95
    assert np.abs(found - expected)[known].max() < 1.001


def test_shifting_moves_by_7_pixels_of_224_and_by_the_same_fraction_of_other_sizes() -> None:
    for size, pixels in ((224, 7), (64, 2)):
        square = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
        right, left = (
            applied("shift_horizontally", square, 1),
            applied("shift_horizontally", square, -1),
        )
        down = applied("shift_vertically", square, 1)
        assert np.array_equal(right[:, pixels:], square[:, :-pixels])
        assert (right[:, :pixels] == 128).all()
        assert np.array_equal(left[:, :-pixels], square[:, pixels:])
        assert (left[:, -pixels:] == 128).all()
        assert np.array_equal(down[pixels:], square[:-pixels])


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_is_by_21_degrees_about_the_center_counter_clockwise_for_sign_1(sign: int) -> None:
    smooth = np.asarray(Image.fromarray(IMAGE[:8, :8]).resize((41, 41), Image.Resampling.BICUBIC))
    found = applied("rotate", smooth, sign)
    angle = math.radians(21 * sign)
    down, across = np.mgrid[-20:21, -20:21].astype(float)
    # The value at (across, down) comes from the point rotated back; rows count downwards.
    source_across = math.cos(angle) * across - math.sin(angle) * down + 20
    source_down = math.sin(angle) * across + math.cos(angle) * down + 20
    inside = (np.minimum(source_across, source_down) >= 0) & (
        np.maximum(source_across, source_down) <= 40
    )
    left, top = (
        np.minimum(np.floor(source[inside]).astype(int), 39)
        for source in (source_across, source_down)
    )
    over, under = source_across[inside] - left, source_down[inside] - top
    for channel in range(3):
        values = smooth[..., channel].astype(float)
        upper = values[top, left] * (1 - over) + values[top, left + 1] * over
        lower = values[top + 1, left] * (1 - over) + values[top + 1, left + 1] * over
        expected = upper * (1 - under) + lower * under
        assert np.abs(found[..., channel][inside] - expected).max() <= 1
    assert (found[0, 0] == 128).all()
