"""Any file name that a file system allows is decoded, or fails with its reason."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from epalm.errors import MediaError
from epalm.media.audio_decode import decode_audio
from epalm.media.image_decode import decode_image
from epalm.media.video_decode import decode_video
from tests.media.file_writers.av_files import noise, random_frames, write_media

NAMES = {
    "bytes that are no UTF-8": b"a\xff\xfe",
    "line end": b"a\nb",
    "escape sequence": b"\x1b[31mred\x1b[0m",
    "leading space": b" a",
    "trailing space": b"a ",
    "format specifiers": b"%s%d{0}",
    "URL": b"http:a",
    "option": b"-i",
    "combining accent": "e\u0301\u202e".encode(),
    "longest": b"a" * 255,
}

DECODERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "image": ("a.jpg", decode_image),
    "video": ("a.mp4", lambda path: decode_video(path, range)),
    "audio by libsndfile": ("a.flac", lambda path: decode_audio(path, seconds=1.0)),
    "audio by FFmpeg": ("a.m4a", lambda path: decode_audio(path, seconds=1.0)),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    Image.fromarray(random_frames(1)[0]).save(folder / "a.jpg")
    write_media(folder / "a.mp4", frames=random_frames(3))
    for ending in ("flac", "m4a"):
        write_media(folder / f"a.{ending}", sound=noise(0.3))
    return folder


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_any_file_name_is_decoded_or_fails_with_its_reason(
    name: bytes, decoder: str, good: Path, tmp_path: Path
) -> None:
    source, decode = DECODERS[decoder]
    path = tmp_path / os.fsdecode(name)
    path.write_bytes((good / source).read_bytes())
    decode(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(MediaError) as raised:
        decode(path)
    assert path.name in str(raised.value)
