"""Open audio and video containers with FFmpeg, and decode their frames despite damage."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

MediaStream = VideoStream | AudioStream
Frame = VideoFrame | AudioFrame


def open_container(path: Path, formats: Sequence[str]) -> InputContainer:
    """Open a file, allowing only the listed FFmpeg demuxers and local files.

    Some of the other demuxers follow paths and URLs inside a file to other files or over the
    network.

    Raises:
        av.FFmpegError: the file has none of these formats.
    """
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    return av.open(str(path.absolute()), metadata_errors="replace", options=options)


def demux_packets(container: InputContainer, stream: MediaStream) -> "Iterator[Packet[Stream]]":
    """Yield the packets of a stream until the end of the file or the first damage."""
    try:
        yield from container.demux(stream)
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def decode_frames(container: InputContainer, stream: MediaStream) -> Iterator[Frame]:
    """Yield the frames of a stream in presentation order, without those of damaged packets."""
    for packet in demux_packets(container, stream):
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            continue
        yield from (frame for frame in frames if isinstance(frame, Frame))
