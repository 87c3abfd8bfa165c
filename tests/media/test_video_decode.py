"""The chosen frames of a video are decoded, upright and of one size."""

import gc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epalm.errors import MediaError
from epalm.media import video_decode
from epalm.media.video_decode import decode_video
from tests.media.file_writers.av_files import noise, random_frames, write_media
from tests.media.file_writers.broken_files import write_rotated_video

STATUS = Path("/proc/self/status")


def data_bytes() -> int:
    """Bytes of data that this process has allocated."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def gray_frames(count: int = 10, *, width: int = 64, height: int = 48) -> np.ndarray:
    """Frames of one gray each, 20 levels apart, which encode their index."""
    grays = (20 + 20 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return np.broadcast_to(grays, (count, height, width, 3)).copy()


def decoded_indices(path: Path, wanted: Sequence[int]) -> list[float]:
    """Decode the frames `wanted`, and read their indices from their brightness."""
    video = decode_video(path, lambda _: wanted)
    return [round((np.asarray(video.frames[number]).mean() - 20) / 20) for number in wanted]


def every_ninth(count: int) -> Sequence[int]:
    return range(4, count, 9)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".webm", ".gif", ".mov"])
def test_every_container_format_returns_the_encoded_frames(ending: str, tmp_path: Path) -> None:
    path = write_media(tmp_path / f"a{ending}", frames=gray_frames())
    video = decode_video(path, lambda count: range(count))
    assert video.count == len(video.frames) == 10
    assert decoded_indices(path, [9, 0, 4]) == [9, 0, 4]
    assert video.frames[0].size == (64, 48)


def test_an_audio_track_and_a_wrong_extension_do_not_matter(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", frames=gray_frames(), sound=noise(1.0))
    renamed = path.rename(tmp_path / "a.avi")
    assert decoded_indices(renamed, [0, 7]) == [0, 7]


def test_frames_are_chosen_by_index_when_the_frame_rate_varies(tmp_path: Path) -> None:
    times = [0, 10, 20, 900, 910, 2000, 2010, 2020, 2030, 2040]
    path = write_media(tmp_path / "a.mkv", frames=gray_frames(), times=times)
    assert decoded_indices(path, range(0, 10, 2)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("size", [(33, 17), (17, 33), (1, 1), (2, 50)])
def test_odd_sizes_are_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", frames=gray_frames(3, width=size[0], height=size[1]))
    video = decode_video(path, lambda _: [1])
    assert video.frames[1].size == size


def test_transparent_pixels_are_composited_on_white(tmp_path: Path) -> None:
    layers = [Image.new("RGBA", (8, 8), (200, 0, 0, 255)) for _ in range(3)]
    for layer in layers:
        layer.paste((0, 0, 0, 0), (0, 0, 4, 8))
    layers[0].save(
        tmp_path / "a.gif", save_all=True, append_images=layers[1:], disposal=2, duration=50
    )
    frame = np.asarray(decode_video(tmp_path / "a.gif", lambda _: [0]).frames[0])
    assert (frame[0, 0] == 255).all()
    assert frame[0, 7].tolist() == [200, 0, 0]


def test_a_video_is_rotated_as_its_header_specifies(tmp_path: Path) -> None:
    """A rotation by 90 degrees clockwise moves the left side to the top."""
    frames = np.zeros((3, 32, 64, 3), dtype=np.uint8)
    frames[:, :, :32] = 250
    write_rotated_video(tmp_path / "a.mp4", frames)
    upright = np.asarray(decode_video(tmp_path / "a.mp4", lambda _: [1]).frames[1])
    assert upright.shape == (64, 32, 3)
    assert upright[:30].mean() > 230 > 20 > upright[34:].mean()


def test_a_truncated_video_is_decoded_if_half_of_it_is_left(tmp_path: Path) -> None:
    frames = random_frames(40, width=160, height=120)
    whole = write_media(tmp_path / "whole.avi", frames=frames)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: int(0.75 * whole.stat().st_size)])
    video = decode_video(cut, lambda count: range(count))
    assert 20 <= video.count < 40
    repeated = decode_video(whole, lambda _: range(video.count))
    assert all(
        video.frames[number].tobytes() == repeated.frames[number].tobytes()
        for number in range(video.count)
    )
    cut.write_bytes(whole.read_bytes()[: int(0.3 * whole.stat().st_size)])
    with pytest.raises(MediaError, match=r"cut\.avi: \d+ of 40 frames can be decoded"):
        decode_video(cut, lambda count: range(count))


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".mpg"])
def test_seeking_in_a_long_video_gives_the_same_frames(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / f"a{ending}", frames=random_frames(60))
    whole = decode_video(path, every_ninth)
    monkeypatch.setattr(video_decode, "SEEK_ABOVE_FRAMES", 59)
    parts = decode_video(path, every_ninth)
    assert parts.count == whole.count == 60
    assert parts.frames.keys() == whole.frames.keys()
    for number, frame in whole.frames.items():
        assert parts.frames[number].tobytes() == frame.tobytes()


def test_only_the_frames_from_the_last_key_frame_on_are_decoded_in_a_long_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "a.mp4", frames=random_frames(300, width=16, height=16))
    decoded: list[object] = []
    every = video_decode.decode_frames
    monkeypatch.setattr(
        video_decode,
        "decode_frames",
        lambda *args: (decoded.append(frame) or frame for frame in every(*args)),
    )
    decode_video(path, lambda count: [count - 20])
    assert len(decoded) == 300
    decoded.clear()
    monkeypatch.setattr(video_decode, "SEEK_ABOVE_FRAMES", 299)
    assert list(decode_video(path, lambda count: [count - 20]).frames) == [280]
    assert len(decoded) < 100


def test_size_limits_are_reported_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_media(tmp_path / "a.mkv", frames=gray_frames())
    monkeypatch.setattr(video_decode, "MAX_TOTAL_PIXELS", 64 * 48 * 4)
    assert len(decode_video(path, lambda _: range(4)).frames) == 4
    with pytest.raises(MediaError, match=r"5 frames of 64 x 48 exceed.*fewer frames or views"):
        decode_video(path, lambda _: range(5))
    monkeypatch.setattr(video_decode, "MAX_FRAME_PIXELS", 3071)
    with pytest.raises(MediaError, match="64 x 48 exceeds the limit of 3071 pixels"):
        decode_video(path, lambda _: [0])


def test_a_file_without_video_and_a_playlist_are_refused(tmp_path: Path) -> None:
    sound = write_media(tmp_path / "a.mp4", sound=noise(0.5))
    with pytest.raises(MediaError, match=r"a\.mp4: there is no video track"):
        decode_video(sound, lambda _: [0])
    write_media(tmp_path / "real.ts", frames=gray_frames())
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match=r"list\.mp4: cannot be decoded"):
        decode_video(tmp_path / "list.mp4", lambda _: [0])


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc, which tells the memory of a process")
def test_memory_does_not_grow_with_the_number_of_decoded_videos(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Frames are in reference cycles, so what they hold stays until the next garbage collection."""
    write_media(tmp_path / "a.mp4", frames=random_frames(8))
    gc.disable()
    request.addfinalizer(gc.enable)
    decode_video(tmp_path / "a.mp4", range)
    before = data_bytes()
    for _ in range(4):
        decode_video(tmp_path / "a.mp4", range)
    assert data_bytes() - before < 50_000_000  # 680 MB with a thread per core in each frame
