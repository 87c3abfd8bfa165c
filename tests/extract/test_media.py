"""Whatever a photo's file holds comes out as upright RGB, or as one reason."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epalm.errors import MediaError
from epalm.extract.media import decode_photo
from tests.extract.helpers import noise

ORIENTATION = 0x0112


def pixels(path: Path) -> np.ndarray:
    photo = decode_photo(path)
    assert photo.mode == "RGB"
    return np.asarray(photo)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff", "webp"])
def test_lossless_formats_come_out_as_they_went_in(suffix: str, tmp_path: Path) -> None:
    picture = noise(30, 20)
    Image.fromarray(picture).save(tmp_path / f"a.{suffix}", lossless=True)
    assert np.array_equal(pixels(tmp_path / f"a.{suffix}"), picture)


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
    picture = noise(30, 20)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), upright(picture))


def test_garbage_exif_leaves_the_photo_as_it_is_and_warns_nobody(tmp_path: Path) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "plain.jpg")
    Image.fromarray(noise(30, 20)).save(
        tmp_path / "odd.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    )
    assert np.array_equal(pixels(tmp_path / "odd.jpg"), pixels(tmp_path / "plain.jpg"))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    picture = noise(6, 4, channels=4)
    picture[..., 3] = [0, 255, 128, 0, 255, 51]
    Image.fromarray(picture).save(tmp_path / "a.png")
    alpha = picture[..., 3:] / 255
    expected = picture[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(pixels(tmp_path / "a.png") - expected).max() <= 1


def test_a_transparent_palette_colour_becomes_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 100, 0])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=0)
    assert pixels(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0, 100, 0]]]


def test_grey_is_repeated_and_bilevel_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(noise(5, 3)[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bilevel.png")
    assert np.array_equal(pixels(tmp_path / "grey.png"), noise(5, 3)[..., :1].repeat(3, axis=2))
    assert pixels(tmp_path / "bilevel.png").tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_cut_off(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert pixels(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 0, 1, 128, 255]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_grey_beyond_16_bits_has_no_defined_range(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.array([[-1, 70000]], dtype=dtype)).save(tmp_path / "a.tiff")
    with pytest.raises(MediaError, match=r"a\.tiff: .* greyscale beyond 16 bits"):
        decode_photo(tmp_path / "a.tiff")


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    assert np.abs(pixels(tmp_path / "red.jpg").mean(axis=(0, 1)) - [255, 0, 0]).max() < 3


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_frame_of_an_animation_counts(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert pixels(tmp_path / f"a.{suffix}")[0, 0].tolist() == [255, 0, 0]


def broken_files(folder: Path) -> dict[str, Path]:
    whole = io.BytesIO()
    Image.fromarray(noise(200, 100)).save(whole, "JPEG")
    png = io.BytesIO()
    Image.fromarray(noise(200, 100)).save(png, "PNG")
    contents = {
        "truncated.jpg": whole.getvalue()[: whole.tell() // 2],
        "header.jpg": whole.getvalue()[:20],
        "truncated.png": png.getvalue()[: png.tell() // 2],
        "flipped.png": png.getvalue()[:400] + b"\0\0\0\0" + png.getvalue()[404:],
        "empty.jpg": b"",
        "text.jpg": b"this is no photo",
        "page.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "bomb.png": bomb(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return {name: folder / name for name in (*contents, "folder.jpg", "missing.jpg")}


def bomb() -> bytes:
    """A small PNG file whose header promises 20,000 x 20,000 pixels."""
    small = io.BytesIO()
    Image.new("1", (1, 1)).save(small, "PNG")
    data = bytearray(small.getvalue())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("header.jpg", "cannot be decoded|not a photo"),
        ("truncated.png", "truncated"),
        ("flipped.png", "cannot be decoded"),
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "not a photo, wanted one of JPEG, PNG"),
        ("page.jpg", "not a photo"),
        ("bomb.png", "exceeds limit"),
        ("folder.jpg", "not a file"),
        ("missing.jpg", "no such file"),
    ],
)
def test_a_bad_file_is_one_error_that_names_file_and_reason(
    name: str, reason: str, tmp_path: Path
) -> None:
    path = broken_files(tmp_path)[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match=rf"^{name}: .*({reason})") as raised:
            decode_photo(path)
    assert "\n" not in str(raised.value)


def test_a_photo_above_pils_warning_limit_decodes_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert pixels(tmp_path / "a.png").shape == (20, 30, 3)
