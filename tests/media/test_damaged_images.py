"""Damaged and oversized images raise one error with the reason, soon and in little memory."""

import io
import os
import socket
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epalm.errors import MediaError
from epalm.media import image_decode
from epalm.media.image_decode import MAX_FILE_BYTES, MAX_PIXELS, decode_image
from epalm.tasks.types import ByteRange

FORMATS = ("jpg", "png", "webp", "gif", "bmp", "tiff", "ppm", "jp2", "avif")


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def broken_files(folder: Path) -> dict[str, Path]:
    whole = io.BytesIO()
    Image.fromarray(noise(200, 100)).save(whole, "JPEG")
    png = io.BytesIO()
    Image.fromarray(noise(200, 100)).save(png, "PNG")
    contents = {
        "truncated.jpg": whole.getvalue()[: whole.tell() * 2 // 5],
        "header.jpg": whole.getvalue()[:20],
        "truncated.png": png.getvalue()[: png.tell() * 2 // 5],
        "flipped.png": png.getvalue()[:400] + b"\0\0\0\0" + png.getvalue()[404:],
        "empty.jpg": b"",
        "text.jpg": b"this is not an image",
        "page.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "decompression_bomb.png": decompression_bomb(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.jpg").mkdir()
    return {name: folder / name for name in (*contents, "folder.jpg", "missing.jpg")}


def decompression_bomb() -> bytes:
    """A small PNG file whose header has 20,000 x 20,000 pixels."""
    small = io.BytesIO()
    Image.new("1", (1, 1)).save(small, "PNG")
    data = bytearray(small.getvalue())
    data[16:24] = (20_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", r"truncated, \d+ of \d+ rows"),
        ("header.jpg", "cannot be decoded|not a supported image"),
        ("truncated.png", r"truncated, \d+ of \d+ rows"),
        ("flipped.png", "cannot be decoded"),
        ("empty.jpg", "the file is empty"),
        ("text.jpg", r"not a supported image \(supported: JPEG, PNG"),
        ("page.jpg", "not a supported image"),
        ("decompression_bomb.png", "exceeds (the )?limit"),
        ("folder.jpg", "not a regular file"),
        ("missing.jpg", "no such file"),
    ],
)
def test_a_bad_file_raises_one_error_with_file_and_reason(
    name: str, reason: str, tmp_path: Path
) -> None:
    path = broken_files(tmp_path)[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match=rf"^{name}: .*({reason})") as raised:
            decode_image(path)
    assert "\n" not in str(raised.value)


def test_an_image_above_pillows_warning_limit_decodes_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert decode_image(tmp_path / "a.png").size == (30, 20)


def reason(path: Path) -> str:
    with pytest.raises(MediaError) as raised:
        decode_image(path)
    message = str(raised.value)
    assert message.startswith(f"{path.name}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path.name}: ")


def test_a_pipe_a_device_and_a_socket_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        for name in ("pipe.jpg", "device.jpg", "socket.jpg"):
            assert reason(tmp_path / name) == "not a regular file"


def test_an_inaccessible_path_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "file").touch()
    assert "symbolic links" in reason(tmp_path / "loop.jpg")
    assert reason(tmp_path / "dangling.jpg") == "no such file"
    assert "Not a directory" in reason(tmp_path / "file" / "a.jpg")
    assert "too long" in reason(tmp_path / ("a" * 300))
    assert "null" in reason(tmp_path / "a\0b")


def test_a_symbolic_link_to_an_image_is_followed(tmp_path: Path) -> None:
    Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert np.array_equal(decode_image(tmp_path / "link.png"), noise(9, 7))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_reported(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "closed" / "b.png"):
        Image.fromarray(noise(9, 7)).save(path)
    (tmp_path / "a.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    assert "Permission denied" in reason(tmp_path / "a.png")
    assert "Permission denied" in reason(tmp_path / "closed" / "b.png")
    (tmp_path / "closed").chmod(0o700)


def test_a_folder_without_permission_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert reason(tmp_path / "a.png") == "not accessible (Permission denied)"


def test_a_file_above_the_size_limit_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "a.webp").open("wb") as sparse:
        sparse.truncate(MAX_FILE_BYTES + 1)
    assert reason(tmp_path / "a.webp") == "500000001 bytes exceed the limit of 500000000"


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_pixel_limit_applies_to_every_format(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / f"a.{suffix}")
    limits = dict.fromkeys(image_decode.MAX_PIXELS_BY_FORMAT, 600)
    monkeypatch.setattr(image_decode, "MAX_PIXELS", 600)
    monkeypatch.setattr(image_decode, "MAX_PIXELS_BY_FORMAT", limits)
    assert decode_image(tmp_path / f"a.{suffix}").size == (30, 20)
    monkeypatch.setattr(image_decode, "MAX_PIXELS", 599)
    monkeypatch.setattr(image_decode, "MAX_PIXELS_BY_FORMAT", dict.fromkeys(limits, 599))
    assert "30 x 20 exceeds the limit of 599 pixels" in reason(tmp_path / f"a.{suffix}")


def test_a_108_megapixel_image_is_accepted_and_no_format_has_a_higher_limit() -> None:
    assert MAX_PIXELS > 12_000 * 9_000
    assert max(image_decode.MAX_PIXELS_BY_FORMAT.values()) < MAX_PIXELS
    assert set(image_decode.MAX_PIXELS_BY_FORMAT) < set(image_decode.IMAGE_FORMATS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damage_anywhere_in_a_file_gives_an_image_or_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(40, 30)).save(path)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for number in range(60):
        damaged = bytearray(whole)
        for index in generator.integers(0, len(whole) if number % 2 else 200, 4):
            damaged[index % len(whole)] = int(generator.integers(256))
        path.write_bytes(
            damaged[: int(generator.integers(1, len(whole)))] if number % 3 else damaged
        )
        try:
            assert decode_image(path).mode == "RGB"
        except MediaError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 10


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "mode", "settings"),
    [
        ("base.jpg", "RGB", {}),
        ("progressive.jpg", "RGB", {"progressive": True, "subsampling": 0}),
        ("inks.jpg", "CMYK", {"progressive": True}),
    ],
)
def test_the_largest_image_needs_less_than_one_and_a_half_gigabytes(
    name: str, mode: str, settings: dict[str, object], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    tile = Image.fromarray(noise(1000, 1000))
    large = Image.new("RGB", (12_000, 9_000))
    for left in range(0, 12_000, 1000):
        large.paste(tile.resize((1000, 9_000)), (left, 0))
    large.convert(mode).save(tmp_path / name, exif=exif, **settings)
    script = (
        "import sys; from pathlib import Path; from epalm.media.image_decode import decode_image;"
        "print(decode_image(Path(sys.argv[1])).size, Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / name)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.startswith("(9000, 12000)")
    peak = next(line for line in output.splitlines() if line.startswith("VmHWM:"))
    assert int(peak.split()[1]) * 1024 < 1_500_000_000


def test_an_image_may_be_a_part_of_a_file(tmp_path: Path) -> None:
    Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    image = (tmp_path / "a.png").read_bytes()
    file = tmp_path / "0.tar"
    file.write_bytes(b"before" + image + b"after")
    assert np.array_equal(decode_image(file, ByteRange(6, len(image))), noise(9, 7))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (ByteRange(6, 5), "0.tar, image at byte 6: not a supported image"),
        (ByteRange(6, 100), "cannot be decoded .ends before byte 106"),
        (
            ByteRange(0, MAX_FILE_BYTES + 1),
            f"image at byte 0: {MAX_FILE_BYTES + 1} bytes exceed the limit",
        ),
    ],
)
def test_a_part_without_an_image_is_reported_with_its_offset(
    part: ByteRange, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "0.tar"
    file.write_bytes(b"before, after")
    with pytest.raises(MediaError, match=reason):
        decode_image(file, part)
