"""Only displayed frames are counted, in short and in long videos."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from epalm.errors import MediaError
from epalm.media import video_decode
from epalm.media.decode_damage import collect_damage
from epalm.media.video_decode import decode_video
from tests.media.file_writers.av_files import random_frames, write_media
from tests.media.file_writers.mp4_boxes import set_edit_list

COUNT = 60

EDITS = {
    "the first 40 frames are hidden": [(20, 40)],
    "the last 40 frames are hidden": [(20, 0)],
    "two parts are displayed": [(5, 10), (15, 40)],
    "a part is displayed twice": [(10, 20), (10, 20)],
    "the parts are swapped": [(10, 40), (10, 0)],
    "the video starts late": [(5, -1), (60, 0)],
}


def every_frame(path: Path) -> list[bytes]:
    """Decode all frames of a video with FFmpeg alone, in order."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def sampled(path: Path) -> list[bytes]:
    """Decode all frames of a video with `decode_video`, in order of their indices."""
    video = decode_video(path, range)
    assert video.count == len(video.frames)
    return [np.asarray(video.frames[index]).tobytes() for index in range(video.count)]


@pytest.fixture(params=["short", "long"])
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decode short videos as a whole, and long ones by seeking to key frames."""
    if request.param == "long":
        monkeypatch.setattr(video_decode, "SEEK_ABOVE_FRAMES", 5)
    return str(request.param)


@pytest.fixture(scope="module")
def unedited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "whole.mp4"
    return write_media(path, frames=random_frames(COUNT, width=32, height=32))


@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS.keys())
def test_frames_hidden_by_an_edit_list_are_not_counted(
    edits: list[tuple[int, int]],
    length: str,
    unedited: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if length == "long":  # never decoded whole
        monkeypatch.setattr(video_decode, "_decode_all", None)
    path = tmp_path / "a.mp4"
    path.write_bytes(unedited.read_bytes())
    set_edit_list(path, edits)
    whole = every_frame(unedited)
    shown = [whole[first + k] for count, first in edits if first >= 0 for k in range(count)]
    with collect_damage() as notes:
        assert sampled(path) == shown
    assert every_frame(path) == shown
    assert notes == []


def encoded(
    path: Path, codec: str, *, frames: np.ndarray, options: dict[str, str], skip: int = 0
) -> Path:
    """Write a video at 10 Hz without its first `skip` packets."""
    with av.open(str(path), "w") as file:
        track = file.add_stream(codec, rate=10, options=options)
        track.height, track.width = frames.shape[1:3]
        track.pix_fmt = "yuv420p"
        packets = []
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += track.encode(frame)
        file.mux((packets + track.encode())[skip:])
    return path


def with_hidden_packets(path: Path, source: Path) -> Path:
    """Write a VP8 video with every tenth frame twice, first as a reference frame."""
    with av.open(str(source)) as original, av.open(str(path), "w") as file:
        track = file.add_stream_from_template(original.streams.video[0])
        for number, packet in enumerate(original.demux(video=0)):
            if packet.size == 0:
                continue
            if number % 10 == 5:
                content = bytearray(bytes(packet))
                content[0] &= ~0x10
                hidden = av.Packet(bytes(content))
                hidden.pts = hidden.dts = packet.pts - 20
                hidden.time_base, hidden.stream = packet.time_base, track
                file.mux(hidden)
            packet.stream = track
            file.mux(packet)
    return path


@pytest.mark.usefixtures("length")
def test_vp8_reference_frames_are_not_counted(tmp_path: Path) -> None:
    source = write_media(tmp_path / "source.webm", frames=random_frames(40, width=32, height=32))
    path = with_hidden_packets(tmp_path / "a.webm", source)
    with av.open(str(path)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == 44
    assert sampled(path) == every_frame(path)
    assert len(every_frame(path)) == 40


def packed(path: Path, frames: np.ndarray) -> Path:
    """Write a DivX packed AVI: a P and a B frame in one packet, then a packet without a frame."""
    contents = list[bytes]()
    with av.open(str(path), "w") as file:
        track = file.add_stream("mpeg4", rate=10, options={"bf": "1", "b_strategy": "0"})
        track.height, track.width = frames.shape[1:3]
        track.pix_fmt = "yuv420p"
        shown = [av.VideoFrame.from_ndarray(pixels, format="rgb24") for pixels in frames]
        for packet in [packet for frame in (*shown, None) for packet in track.encode(frame)]:
            if packet.pts < packet.dts + 1:  # a B frame
                contents[-1] += bytes(packet)
                contents.append(b"\0\0\1\xb6\x50\0\0")
            else:
                name = b"\0\0\1\xb2DivX503b1393p" if packet.is_keyframe else b""
                contents.append(name + bytes(packet))
        for number, content in enumerate(contents):
            packet = av.Packet(content)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, 10), track
            packet.is_keyframe = number == 0
            file.mux(packet)
    return path


@pytest.mark.usefixtures("length")
def test_frames_packed_two_by_two_are_all_counted(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.avi", random_frames(21, width=32, height=32))
    assert path.read_bytes().count(b"\0\0\1\xb6\x50\0\0") == 10
    assert len(every_frame(path)) == 21
    assert sampled(path) == every_frame(path)


@pytest.mark.usefixtures("length")
@pytest.mark.parametrize("skip", [0, 11])
@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_frames_that_refer_to_a_part_cut_off_are_not_counted(
    skip: int, ending: str, tmp_path: Path
) -> None:
    """The video is HEVC with open GOPs, cut at a key frame or elsewhere."""
    parameters = "keyint=10:min-keyint=10:scenecut=0:open-gop=1:bframes=3:b-adapt=0:log-level=none"
    path = encoded(
        tmp_path / f"a{ending}",
        "libx265",
        frames=random_frames(40, width=64, height=64),
        options={"x265-params": parameters, "preset": "ultrafast"},
        skip=skip,
    )
    assert sampled(path) == every_frame(path)


def test_a_long_video_with_less_than_half_of_its_frames_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_decode, "SEEK_ABOVE_FRAMES", 5)
    path = tmp_path / "a.mp4"
    write_media(path, frames=random_frames(COUNT), options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    with collect_damage() as notes:
        count = decode_video(path, range).count
    assert COUNT / 2 <= count < COUNT
    assert notes == [f"a.mp4: {count} of {COUNT} frames can be decoded"]
    path.write_bytes(content[: int(0.4 * len(content))])
    with pytest.raises(MediaError, match=r"a\.mp4: \d+ of 60 frames can be decoded"):
        decode_video(path, range)
