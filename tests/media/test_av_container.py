"""Containers are followed and packets decoded as far as damage lets them."""

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from epalm.errors import MediaError
from epalm.media.audio_decode import decode_audio
from epalm.media.av_container import decode_frames, demux_packets, open_container
from epalm.media.video_decode import decode_video
from tests.media.av_files import noise, pictures, write

DAMAGE = [
    av.error.InvalidDataError(1, "damaged"),
    av.error.PatchWelcomeError(1, "not known to FFmpeg"),
    av.error.OSError(5, "input or output"),
]


class Breaking:
    """A container's demuxer that meets an error behind the first packets of a real one."""

    def __init__(self, container: av.container.InputContainer, error: Exception) -> None:
        self.container = container
        self.error = error

    def demux(self, track: av.stream.Stream) -> Iterator[object]:
        packets = self.container.demux(track)
        yield from (next(packets) for _ in range(4))
        raise self.error


class Spoilt:
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
def clip(tmp_path: Path) -> Iterator[av.container.InputContainer]:
    """Ten pictures of which none needs another."""
    write(tmp_path / "a.mkv", frames=pictures(10))
    with open_container(tmp_path / "a.mkv", ["matroska"]) as container:
        yield container


@pytest.mark.parametrize("error", DAMAGE)
def test_a_container_that_breaks_off_gives_what_comes_before(
    error: Exception, clip: av.container.InputContainer
) -> None:
    assert len(list(demux_packets(Breaking(clip, error), clip.streams.video[0]))) == 4


@pytest.mark.parametrize("error", DAMAGE)
def test_a_packet_that_cannot_be_decoded_is_left_out(
    error: Exception, clip: av.container.InputContainer
) -> None:
    track = clip.streams.video[0]
    assert [frame.pts for frame in decode_frames(Spoilt(clip, error), track)] == [
        100 * number for number in range(10) if number != 2
    ]


@pytest.mark.parametrize("kind", [Breaking, Spoilt])
def test_memory_that_runs_out_is_no_damage(
    kind: type[Breaking | Spoilt], clip: av.container.InputContainer
) -> None:
    short = kind(clip, av.error.MemoryError(12, "Cannot allocate memory"))
    with pytest.raises(MemoryError):
        list(decode_frames(short, clip.streams.video[0]))


def test_a_reader_that_is_not_named_is_not_tried(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", frames=pictures(2))
    open_container(tmp_path / "a.mp4", ["avi", "mov"]).close()
    with pytest.raises(av.FFmpegError):
        open_container(tmp_path / "a.mp4", ["avi", "matroska"])


def test_a_codec_that_ffmpeg_does_not_know_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", frames=pictures(4), sound=noise(0.5))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"V_FFV1", b"V_NONE").replace(b"A_FLAC", b"A_NONE"))
    with pytest.raises(MediaError, match="mkv: no decoder for its pictures, or a damaged header"):
        decode_video(path, range)
    with pytest.raises(
        MediaError, match="mkv: no decoder for its sound track, or a damaged header"
    ):
        decode_audio(path, seconds=1)
