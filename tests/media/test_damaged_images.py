"""A file that is no whole photo of an acceptable size is one reason, soon and in little memory."""

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
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", r"cut off, \d+ of \d+ rows"),
        ("header.jpg", "cannot be decoded|not a photo"),
        ("truncated.png", r"cut off, \d+ of \d+ rows"),
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
            decode_image(path)
    assert "\n" not in str(raised.value)


def test_a_photo_above_pils_warning_limit_decodes_without_a_warning(
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
            assert reason(tmp_path / name) == "not a file"


def test_a_path_that_leads_nowhere_says_why(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "file").touch()
    assert "symbolic links" in reason(tmp_path / "loop.jpg")
    assert reason(tmp_path / "dangling.jpg") == "no such file"
    assert "Not a directory" in reason(tmp_path / "file" / "a.jpg")
    assert "too long" in reason(tmp_path / ("a" * 300))
    assert "null" in reason(tmp_path / "a\0b")


def test_a_link_to_a_photo_is_the_photo(tmp_path: Path) -> None:
    Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    assert np.array_equal(decode_image(tmp_path / "link.png"), noise(9, 7))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "closed" / "b.png"):
        Image.fromarray(noise(9, 7)).save(path)
    (tmp_path / "a.png").chmod(0)
    (tmp_path / "closed").chmod(0)
    assert "Permission denied" in reason(tmp_path / "a.png")
    assert "Permission denied" in reason(tmp_path / "closed" / "b.png")
    (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_may_not_be_entered_is_a_reason_not_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert reason(tmp_path / "a.png") == "cannot be reached (Permission denied)"


def test_a_file_larger_than_any_photo_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "a.webp").open("wb") as sparse:
        sparse.truncate(MAX_FILE_BYTES + 1)
    assert reason(tmp_path / "a.webp") == "500000001 bytes, the limit is 500000000"


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_limit_of_pixels_holds_for_every_format(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(30, 20)).save(tmp_path / f"a.{suffix}")
    limits = dict.fromkeys(image_decode.MAX_PIXELS_BY_FORMAT, 600)
    monkeypatch.setattr(image_decode, "MAX_PIXELS", 600)
    monkeypatch.setattr(image_decode, "MAX_PIXELS_BY_FORMAT", limits)
    assert decode_image(tmp_path / f"a.{suffix}").size == (30, 20)
    monkeypatch.setattr(image_decode, "MAX_PIXELS", 599)
    monkeypatch.setattr(image_decode, "MAX_PIXELS_BY_FORMAT", dict.fromkeys(limits, 599))
    assert "30 x 20 exceeds limit of 599 pixels" in reason(tmp_path / f"a.{suffix}")


def test_the_largest_photo_of_a_telephone_is_accepted_and_no_format_has_more() -> None:
    telephone = 12_000 * 9_000
    assert telephone < MAX_PIXELS
    assert max(image_decode.MAX_PIXELS_BY_FORMAT.values()) < MAX_PIXELS
    assert set(image_decode.MAX_PIXELS_BY_FORMAT) < set(image_decode.IMAGE_FORMATS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damage_anywhere_in_a_file_gives_a_photo_or_a_reason(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(40, 30)).save(path)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for number in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole) if number % 2 else 200, 4):
            damaged[place % len(whole)] = int(generator.integers(256))
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
def test_the_largest_photo_takes_less_than_one_and_a_half_gigabytes(
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
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("(9000, 12000)")
    peak = next(line for line in said.splitlines() if line.startswith("VmHWM:"))
    assert int(peak.split()[1]) * 1024 < 1_500_000_000


def test_a_photo_may_be_a_part_of_a_file(tmp_path: Path) -> None:
    Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    photo = (tmp_path / "a.png").read_bytes()
    file = tmp_path / "0.tar"
    file.write_bytes(b"before" + photo + b"after")
    assert np.array_equal(decode_image(file, ByteRange(6, len(photo))), noise(9, 7))


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (ByteRange(6, 5), "0.tar from byte 6 on: not a photo"),
        (ByteRange(6, 100), "cannot be decoded .ends before byte 106"),
        (
            ByteRange(0, MAX_FILE_BYTES + 1),
            f"from byte 0 on: {MAX_FILE_BYTES + 1} bytes, the limit is",
        ),
    ],
)
def test_a_part_that_holds_no_photo_fails_with_its_place(
    part: ByteRange, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "0.tar"
    file.write_bytes(b"before, after")
    with pytest.raises(MediaError, match=reason):
        decode_image(file, part)
