"""A truncated or damaged image is decoded, and noted, if half of its rows are intact."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from epalm.errors import MediaError
from epalm.media.decode_damage import collect_damage
from epalm.media.image_decode import decode_image
from tests.media.file_writers.av_files import random_frames

SIDE = 128


def noisy_image() -> Image.Image:
    """Blocks of random colors with noise, so that all rows differ."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image.fromarray(random_frames(1, width=SIDE, height=SIDE)[0] // 2 + noise)


def encoded(kind: str, options: Mapping[str, object]) -> bytes:
    out = io.BytesIO()
    noisy_image().save(out, kind, **options)
    return out.getvalue()


def decoded(path: Path) -> tuple[np.ndarray, list[str]]:
    """Pixels (height, width, 3), and the notes on damage."""
    with collect_damage() as notes:
        return np.asarray(decode_image(path), dtype=int), notes


def test_a_jpeg_without_its_end_marker_is_decoded_whole(tmp_path: Path) -> None:
    content = encoded("JPEG", {"quality": 90})
    (tmp_path / "whole.jpg").write_bytes(content)
    (tmp_path / "cut.jpg").write_bytes(content[:-2])
    whole, whole_notes = decoded(tmp_path / "whole.jpg")
    cut, notes = decoded(tmp_path / "cut.jpg")
    assert (cut == whole).all()
    assert whole_notes == []
    assert notes == ["cut.jpg: damaged or truncated, 128 of 128 rows can be decoded"]


BY_ROWS = {
    "jpg": ("JPEG", {"quality": 90}),
    "444.jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    "png": ("PNG", {}),
    "bmp": ("BMP", {}),
    "ppm": ("PPM", {}),
    "tif": ("TIFF", {}),
}


@pytest.mark.parametrize("name", BY_ROWS)
def test_intact_rows_are_decoded_exactly(name: str, tmp_path: Path) -> None:
    content = encoded(*BY_ROWS[name])
    (tmp_path / f"whole.{name}").write_bytes(content)
    whole, _ = decoded(tmp_path / f"whole.{name}")
    (tmp_path / f"a.{name}").write_bytes(content[: len(content) * 3 // 4])
    cut, notes = decoded(tmp_path / f"a.{name}")
    intact = (cut == whole).all(axis=(1, 2)).sum()
    (note,) = notes
    rows = int(note.split(", ")[1].split()[0])
    assert note == f"a.{name}: damaged or truncated, {rows} of {SIDE} rows can be decoded"
    assert abs(rows - intact) <= 16  # one row of JPEG blocks with chroma subsampling
    assert SIDE * 0.6 < rows < SIDE * 0.85
    assert (cut == 0).all(axis=(1, 2)).sum() == pytest.approx(SIDE - rows, abs=1)


@pytest.mark.parametrize("name", BY_ROWS)
def test_an_image_with_less_than_half_of_its_rows_is_refused(name: str, tmp_path: Path) -> None:
    content = encoded(*BY_ROWS[name])
    path = tmp_path / f"a.{name}"
    path.write_bytes(content[: len(content) * 2 // 5])
    with pytest.raises(MediaError, match=rf"^a\.{name}: damaged or truncated, \d+ of 128 rows"):
        decode_image(path)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "JPEG2000"])
def test_truncated_formats_without_a_row_count_are_refused(kind: str, tmp_path: Path) -> None:
    content = encoded(kind, {})
    path = tmp_path / "a"
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(MediaError, match=r"^a: "):
        decode_image(path)


def scan_starts(content: bytes) -> list[int]:
    return [n for n in range(len(content) - 1) if content[n : n + 2] == b"\xff\xda"]


def test_a_progressive_jpeg_is_accepted_once_all_luma_frequencies_are_read(
    tmp_path: Path,
) -> None:
    """libjpeg's scans: DC; luma 1-5; two chroma scans; luma 6-63; refinements."""
    content = encoded("JPEG", {"quality": 90, "progressive": True})
    starts = scan_starts(content)
    (tmp_path / "whole.jpg").write_bytes(content)
    whole, _ = decoded(tmp_path / "whole.jpg")
    for number in range(5):
        (tmp_path / "a.jpg").write_bytes(content[: starts[number] + 20])
        with pytest.raises(MediaError, match=r"a\.jpg: cannot be decoded"):
            decode_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(content[: starts[5] + 20])
    cut, notes = decoded(tmp_path / "a.jpg")
    assert np.abs(cut - whole).mean() < 12 < np.abs(cut[::-1] - whole).mean()
    assert len(notes) == 1
    (tmp_path / "a.jpg").write_bytes(content[:-2])
    assert (decoded(tmp_path / "a.jpg")[0] == whole).all()


def with_chunk(content: bytes, kind: bytes, body: bytes, *, after: bytes, intact: bool) -> bytes:
    """Insert a chunk into a PNG after the first chunk with the name `after`."""
    end = content.index(after) - 4
    end += 12 + int.from_bytes(content[end : end + 4], "big")
    checksum = zlib.crc32(kind + body) ^ (0 if intact else 1)
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
    return content[:end] + chunk + content[end:]


@pytest.mark.parametrize("after", [b"IHDR", b"IDAT"])
@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"gAMA", b"eXIf"])
def test_a_wrong_checksum_of_metadata_changes_nothing(
    kind: bytes, after: bytes, tmp_path: Path
) -> None:
    content = encoded("PNG", {})
    damaged = with_chunk(content, kind, b"Comment\0\0hello", after=after, intact=False)
    (tmp_path / "a.png").write_bytes(damaged)
    image, notes = decoded(tmp_path / "a.png")
    assert (image == np.asarray(noisy_image())).all()
    assert notes == []


@pytest.mark.parametrize("kind", ["IHDR", "PLTE", "IDAT", "IEND"])
def test_a_wrong_checksum_of_pixels_or_palette_is_refused(kind: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    noisy_image().quantize(16).save(out, "PNG")
    content = bytearray(out.getvalue())
    start = content.index(kind.encode()) - 4
    length = int.from_bytes(content[start : start + 4], "big")
    content[start + 8 + length] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(MediaError, match=f"a.png: cannot .*wrong checksum of PNG chunk '{kind}'"):
        decode_image(tmp_path / "a.png")


def test_a_truncated_png_with_a_damaged_profile_is_decoded(
    tmp_path: Path,
) -> None:
    content = encoded("PNG", {})
    damaged = with_chunk(content, b"iCCP", b"x\0\0nothing", after=b"IHDR", intact=True)
    (tmp_path / "a.png").write_bytes(damaged[:-60])
    image, notes = decoded(tmp_path / "a.png")
    assert (image[: SIDE // 2] == np.asarray(noisy_image())[: SIDE // 2]).all()
    assert len(notes) == 1


GRAY = np.arange(256, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_unsigned_16_bit_grayscale_is_white_at_65535(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(GRAY * 257).save(path)
    image = np.asarray(decode_image(path))
    assert (image == GRAY[..., None]).all()


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [(np.int32, "signed or 32-bit"), (np.float32, "floating-point")],
)
@pytest.mark.parametrize("largest", [1, 255, 65535, 1_000_000])
def test_grayscale_without_a_defined_white_is_refused(
    dtype: type, reason: str, largest: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray((GRAY * (largest / 255)).astype(dtype)).save(path)
    with pytest.raises(MediaError, match=f"a.tif: cannot be decoded .{reason} pixels"):
        decode_image(path)


def with_tag(path: Path, tag: int, value: int) -> None:
    """Change the value of a tag of a little-endian TIFF."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[start : start + 2])
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack("<H", content[entry : entry + 2]) == (tag,):
            content[entry + 8 : entry + 10] = struct.pack("<H", value)
    path.write_bytes(content)


def test_16_bit_grayscale_whose_zero_is_white_is_not_inverted(tmp_path: Path) -> None:
    Image.fromarray(GRAY * 257).save(tmp_path / "a.tif")
    with_tag(tmp_path / "a.tif", 262, 0)
    assert (np.asarray(decode_image(tmp_path / "a.tif")) == 255 - GRAY[..., None]).all()


def test_12_bit_grayscale_is_refused_instead_of_decoded_too_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16), 4095, dtype=np.uint16)).save(tmp_path / "a.tif")
    with_tag(tmp_path / "a.tif", 258, 12)
    with pytest.raises(MediaError, match=r"a\.tif: .*12 bits per channel"):
        decode_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["text", "profile"])
def test_metadata_larger_than_pillow_accepts_is_ignored(kind: str, tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("note", "a" * 3_000_000, zip=True)
    large = {"text": {"pnginfo": texts}, "profile": {"icc_profile": bytes(3_000_000)}}
    noisy_image().save(tmp_path / "a.png", **large[kind])
    assert (decoded(tmp_path / "a.png")[0] == np.asarray(noisy_image())).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_an_invalid_color_profile_is_ignored(ending: str, tmp_path: Path) -> None:
    noisy_image().save(tmp_path / f"plain.{ending}")
    noisy_image().save(tmp_path / f"a.{ending}", icc_profile=b"no profile at all" * 9)
    plain, _ = decoded(tmp_path / f"plain.{ending}")
    image, notes = decoded(tmp_path / f"a.{ending}")
    assert (image == plain).all()
    assert notes == []
