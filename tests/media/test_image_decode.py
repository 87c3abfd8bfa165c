"""Every supported image file decodes to upright RGB."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epalm.errors import MediaError
from epalm.media.image_decode import decode_image
from tests.extract.helpers import noise

ORIENTATION = 0x0112


def pixels(path: Path) -> np.ndarray:
    image = decode_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff", "webp"])
def test_lossless_formats_round_trip(suffix: str, tmp_path: Path) -> None:
    image = noise(30, 20)
    Image.fromarray(image).save(tmp_path / f"a.{suffix}", lossless=True)
    assert np.array_equal(pixels(tmp_path / f"a.{suffix}"), image)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, upright: object, tmp_path: Path) -> None:
    image = noise(30, 20)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), upright(image))


def test_malformed_exif_is_ignored_without_a_warning(tmp_path: Path) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "plain.jpg")
    Image.fromarray(noise(30, 20)).save(
        tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    )
    assert np.array_equal(pixels(tmp_path / "odd.jpg"), pixels(tmp_path / "plain.jpg"))


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    image = noise(6, 4, channels=4)
    image[..., 3] = [0, 255, 128, 0, 255, 51]
    Image.fromarray(image).save(tmp_path / "a.png")
    alpha = image[..., 3:] / 255
    expected = image[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(tmp_path / "a.png") - expected).max() <= 1


def test_a_transparent_palette_color_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=0)
    assert pixels(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 100, 0]]]


def test_grayscale_is_repeated_and_bilevel_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(noise(5, 3)[..., 0]).save(tmp_path / "gray.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bilevel.png")
    assert np.array_equal(pixels(tmp_path / "gray.png"), noise(5, 3)[..., :1].repeat(3, axis=2))
    assert pixels(tmp_path / "bilevel.png").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grayscale_is_scaled_not_clipped(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_grayscale_beyond_16_bits_is_refused(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1, 70000]], dtype=dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match=r"a\.tiff: .* no defined white"):
        decode_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("marker", ["Adobe's", "no"])
def test_a_cmyk_jpeg_is_read_as_inverted_as_adobe_writes_it(marker: str, tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), dtype=np.uint8)
    inks[:] = [0, 200, 255, 30]
    content = io.BytesIO()
    Image.frombytes("CMYK", (16, 16), inks.tobytes()).save(
        content, "JPEG", quality=100, subsampling=0
    )
    data = content.getvalue()
    start = data.index(b"\xff\xee")
    length = 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    assert data[start + 4 : start + 9] == b"Adobe"
    (tmp_path / "a.jpg").write_bytes(
        data if marker != "no" else data[:start] + data[start + length :]
    )
    # Color is 255 - ink, darkened by black: (255 - 0, 255 - 200, 255 - 255) x (255 - 30) / 255.
    assert np.abs(pixels(tmp_path / "a.jpg").mean(axis=(0, 1)) - [225, 48.5, 0]).max() < 3


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "red.jpg").mean(axis=(0, 1)) - [255, 0, 0]).max() < 3


def png(values: np.ndarray, color_type: int, *, depth: int, key: bytes = b"") -> bytes:
    """Assemble a PNG file; `key` is the content of its tRNS chunk."""

    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + crc

    height, width = values.shape[:2]
    head = (
        width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, color_type, 0, 0, 0])
    )
    rows = b"".join(
        b"\0" + row.astype(">u2" if depth == 16 else np.uint8).tobytes() for row in values
    )
    transparent = chunk(b"tRNS", key) if key else b""
    body = chunk(b"IHDR", head) + transparent + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def decoded(tmp_path: Path, content: bytes) -> list[list[int]]:
    """Decode and return the pixels of the first row."""
    (tmp_path / "a.png").write_bytes(content)
    return pixels(tmp_path / "a.png")[0].tolist()


def test_16_bit_color_is_read_to_within_one_level(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    (tmp_path / "a.png").write_bytes(png(np.stack([values] * 3, axis=-1), 2, depth=16))
    lost = np.rint(values / 257) - pixels(tmp_path / "a.png")[..., 0]
    assert (lost.min(), lost.max()) == (-1, 1)
    assert np.mean(lost != 0) < 0.25


def test_16_bit_grayscale_with_alpha_is_composited_on_white(tmp_path: Path) -> None:
    gray_alpha = np.array([[[0, 65535], [0, 0], [0, 32896], [32896, 65535]]])
    assert decoded(tmp_path, png(gray_alpha, 4, depth=16)) == [
        [0] * 3,
        [255] * 3,
        [127] * 3,
        [128] * 3,
    ]


def test_16_bit_color_with_alpha_is_composited_on_white(tmp_path: Path) -> None:
    content = png(np.array([[[65535, 0, 257, 65535], [0, 0, 0, 0]]]), 6, depth=16)
    assert decoded(tmp_path, content) == [[255, 0, 1], [255] * 3]


def test_a_color_declared_transparent_becomes_white(tmp_path: Path) -> None:
    colors = np.array([[[10, 20, 30], [40, 50, 60]]])
    key = bytes([0, 10, 0, 20, 0, 30])
    assert decoded(tmp_path, png(colors, 2, depth=8, key=key)) == [[255] * 3, [40, 50, 60]]
    grays = np.array([[10, 20]])
    assert decoded(tmp_path, png(grays, 0, depth=8, key=b"\0\x0a")) == [[255] * 3, [20] * 3]


def test_grayscale_with_alpha_and_a_plain_palette_are_decoded(tmp_path: Path) -> None:
    gray_alpha = np.array([[[100, 255], [100, 0], [100, 51]]])
    assert decoded(tmp_path, png(gray_alpha, 4, depth=8)) == [[100] * 3, [255] * 3, [224] * 3]
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putdata([1, 0])
    image.save(tmp_path / "p.png")
    assert pixels(tmp_path / "p.png").tolist() == [[[0, 100, 0], [200, 0, 0]]]


def test_palette_colors_with_an_alpha_each_are_composited_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([200, 0, 0, 0, 100, 0, 0, 0, 50])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "a.png", transparency=bytes([255, 51, 0]))
    assert pixels(tmp_path / "a.png")[0].tolist() == [[200, 0, 0], [204, 224, 204], [255] * 3]


def test_every_alpha_of_every_value_equals_exact_compositing_on_white(tmp_path: Path) -> None:
    value, alpha = np.meshgrid(np.arange(256), np.arange(256))
    layer = np.stack([value, value, value, alpha], axis=-1).astype(np.uint8)
    Image.fromarray(layer).save(tmp_path / "a.png")
    exact = (value * alpha + 255 * (255 - alpha)) / 255
    assert np.abs(pixels(tmp_path / "a.png")[..., 0] - exact).max() <= 0.5


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation_is_decoded(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(tmp_path / f"a.{suffix}")[0, 0].tolist() == [255, 0, 0]
