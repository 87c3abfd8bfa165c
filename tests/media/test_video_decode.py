"""Which frames are taken of a clip, and that they come out as they were put in."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from epalm.errors import MediaError
from epalm.media import video_decode
from epalm.media.video_decode import decode_video
from tests.media.av_files import noise, pictures, write
from tests.media.broken_files import turned_clip


def shades(count: int = 10, *, width: int = 64, height: int = 48) -> np.ndarray:
    """Frames each of one grey, 20 apart, so that a decoded frame says its number."""
    greys = (20 + 20 * np.arange(count, dtype=np.uint8))[:, None, None, None]
    return np.broadcast_to(greys, (count, height, width, 3)).copy()


def numbers(path: Path, wanted: Sequence[int]) -> list[float]:
    """The numbers that the decoded frames say they have."""
    clip = decode_video(path, lambda _: wanted)
    return [round((np.asarray(clip.frames[number]).mean() - 20) / 20) for number in wanted]


def every_ninth(count: int) -> Sequence[int]:
    return range(4, count, 9)


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".webm", ".gif", ".mov"])
def test_each_container_gives_the_frames_that_were_put_in(ending: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{ending}", frames=shades())
    clip = decode_video(path, lambda count: range(count))
    assert clip.count == len(clip.frames) == 10
    assert numbers(path, [9, 0, 4]) == [9, 0, 4]
    assert clip.frames[0].size == (64, 48)


def test_a_sound_track_and_a_wrong_ending_change_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", frames=shades(), sound=noise(1.0))
    renamed = path.rename(tmp_path / "a.avi")
    assert numbers(renamed, [0, 7]) == [0, 7]


def test_frames_are_counted_and_not_timed_when_their_rate_varies(tmp_path: Path) -> None:
    times = [0, 10, 20, 900, 910, 2000, 2010, 2020, 2030, 2040]
    path = write(tmp_path / "a.mkv", frames=shades(), times=times)
    assert numbers(path, range(0, 10, 2)) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("size", [(33, 17), (17, 33), (1, 1), (2, 50)])
def test_odd_sizes_are_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", frames=shades(3, width=size[0], height=size[1]))
    clip = decode_video(path, lambda _: [1])
    assert clip.frames[1].size == size


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    layers = [Image.new("RGBA", (8, 8), (200, 0, 0, 255)) for _ in range(3)]
    for layer in layers:
        layer.paste((0, 0, 0, 0), (0, 0, 4, 8))
    layers[0].save(
        tmp_path / "a.gif", save_all=True, append_images=layers[1:], disposal=2, duration=50
    )
    frame = np.asarray(decode_video(tmp_path / "a.gif", lambda _: [0]).frames[0])
    assert (frame[0, 0] == 255).all()
    assert frame[0, 7].tolist() == [200, 0, 0]


def test_a_clip_is_turned_as_its_header_says(tmp_path: Path) -> None:
    """By a quarter clockwise: what was on the left comes to lie above."""
    frames = np.zeros((3, 32, 64, 3), dtype=np.uint8)
    frames[:, :, :32] = 250
    turned_clip(tmp_path / "a.mp4", frames)
    upright = np.asarray(decode_video(tmp_path / "a.mp4", lambda _: [1]).frames[1])
    assert upright.shape == (64, 32, 3)
    assert upright[:30].mean() > 230 > 20 > upright[34:].mean()


def test_what_is_left_of_a_cut_clip_is_taken_if_it_is_half(tmp_path: Path) -> None:
    frames = pictures(40, width=160, height=120)
    whole = write(tmp_path / "whole.avi", frames=frames)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: int(0.75 * whole.stat().st_size)])
    clip = decode_video(cut, lambda count: range(count))
    assert 20 <= clip.count < 40
    again = decode_video(whole, lambda _: range(clip.count))
    assert all(
        clip.frames[number].tobytes() == again.frames[number].tobytes()
        for number in range(clip.count)
    )
    cut.write_bytes(whole.read_bytes()[: int(0.3 * whole.stat().st_size)])
    with pytest.raises(MediaError, match=r"cut\.avi: \d+ of 40 frames can be decoded"):
        decode_video(cut, lambda count: range(count))


@pytest.mark.parametrize("ending", [".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif", ".mpg"])
def test_a_long_clip_entered_at_its_key_frames_gives_the_same_frames(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"a{ending}", frames=pictures(60))
    whole = decode_video(path, every_ninth)
    monkeypatch.setattr(video_decode, "LONG_FRAMES", 59)
    parts = decode_video(path, every_ninth)
    assert parts.count == whole.count == 60
    assert parts.frames.keys() == whole.frames.keys()
    for number, frame in whole.frames.items():
        assert parts.frames[number].tobytes() == frame.tobytes()


def test_only_what_leads_to_the_wanted_frames_of_a_long_clip_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mp4", frames=pictures(300, width=16, height=16))
    decoded: list[object] = []
    every = video_decode.decode_frames
    monkeypatch.setattr(
        video_decode,
        "decode_frames",
        lambda *args: (decoded.append(one) or one for one in every(*args)),
    )
    decode_video(path, lambda count: [count - 20])
    assert len(decoded) == 300
    decoded.clear()
    monkeypatch.setattr(video_decode, "LONG_FRAMES", 299)
    assert list(decode_video(path, lambda count: [count - 20]).frames) == [280]
    assert len(decoded) < 100


def test_limits_of_size_are_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", frames=shades())
    monkeypatch.setattr(video_decode, "MAX_KEPT_PIXELS", 64 * 48 * 4)
    assert len(decode_video(path, lambda _: range(4)).frames) == 4
    with pytest.raises(MediaError, match=r"5 frames of 64 x 48 exceed.*fewer frames or views"):
        decode_video(path, lambda _: range(5))
    monkeypatch.setattr(video_decode, "MAX_FRAME_PIXELS", 3071)
    with pytest.raises(MediaError, match="64 x 48 exceeds the limit of 3071 pixels"):
        decode_video(path, lambda _: [0])


def test_a_file_without_pictures_or_that_names_other_files_is_refused(tmp_path: Path) -> None:
    sound = write(tmp_path / "a.mp4", sound=noise(0.5))
    with pytest.raises(MediaError, match=r"a\.mp4: there is no picture track"):
        decode_video(sound, lambda _: [0])
    write(tmp_path / "real.ts", frames=shades())
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(MediaError, match=r"list\.mp4: cannot be decoded"):
        decode_video(tmp_path / "list.mp4", lambda _: [0])
