"""Containers are demuxed and packets decoded despite damage."""

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from epalm.errors import MediaError
from epalm.media.audio_decode import decode_audio
from epalm.media.av_container import decode_frames, demux_packets, open_container
from epalm.media.video_decode import decode_video
from tests.media.file_writers.av_files import noise, random_frames, write_media

DAMAGE = [
    av.error.InvalidDataError(1, "damaged"),
    av.error.PatchWelcomeError(1, "not known to FFmpeg"),
    av.error.OSError(5, "input or output"),
]


class FailingDemuxer:
    """A container whose demuxer raises an error after the first four packets."""

    def __init__(self, container: av.container.InputContainer, error: Exception) -> None:
        self.container = container
        self.error = error

    def demux(self, track: av.stream.Stream) -> Iterator[object]:
        packets = self.container.demux(track)
        yield from (next(packets) for _ in range(4))
        raise self.error


class UndecodablePacket:
    """A container whose third packet cannot be decoded."""

    def __init__(self, container: av.container.InputContainer, error: Exception) -> None:
        self.container = container
        self.error = error

    def demux(self, track: av.stream.Stream) -> Iterator[object]:
        for number, packet in enumerate(self.container.demux(track)):
            yield self if number == 2 else packet

    def decode(self) -> list[object]:
        raise self.error


@pytest.fixture
def video(tmp_path: Path) -> Iterator[av.container.InputContainer]:
    """A video of ten frames, all of them key frames."""
    write_media(tmp_path / "a.mkv", frames=random_frames(10))
    with open_container(tmp_path / "a.mkv", ["matroska"]) as container:
        yield container


@pytest.mark.parametrize("error", DAMAGE)
def test_packets_before_a_demuxer_error_are_returned(
    error: Exception, video: av.container.InputContainer
) -> None:
    assert len(list(demux_packets(FailingDemuxer(video, error), video.streams.video[0]))) == 4


@pytest.mark.parametrize("error", DAMAGE)
def test_a_packet_that_cannot_be_decoded_is_skipped(
    error: Exception, video: av.container.InputContainer
) -> None:
    track = video.streams.video[0]
    assert [frame.pts for frame in decode_frames(UndecodablePacket(video, error), track)] == [
        100 * number for number in range(10) if number != 2
    ]


@pytest.mark.parametrize("kind", [FailingDemuxer, UndecodablePacket])
def test_running_out_of_memory_is_not_treated_as_damage(
    kind: type[FailingDemuxer | UndecodablePacket], video: av.container.InputContainer
) -> None:
    short = kind(video, av.error.MemoryError(12, "Cannot allocate memory"))
    with pytest.raises(MemoryError):
        list(decode_frames(short, video.streams.video[0]))


def test_a_demuxer_that_is_not_listed_is_not_tried(tmp_path: Path) -> None:
    write_media(tmp_path / "a.mp4", frames=random_frames(2))
    open_container(tmp_path / "a.mp4", ["avi", "mov"]).close()
    with pytest.raises(av.FFmpegError):
        open_container(tmp_path / "a.mp4", ["avi", "matroska"])


def test_an_unknown_codec_is_reported(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", frames=random_frames(4), sound=noise(0.5))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"V_FFV1", b"V_NONE").replace(b"A_FLAC", b"A_NONE"))
    with pytest.raises(MediaError, match="mkv: there is no decoder for the video track"):
        decode_video(path, range)
    with pytest.raises(MediaError, match="mkv: there is no decoder for the audio track"):
        decode_audio(path, seconds=1)
