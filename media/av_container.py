"""What clips and sound tracks share: a container is opened, and decoded past its damage."""

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

Track = VideoStream | AudioStream
Frame = VideoFrame | AudioFrame


def open_container(path: Path, formats: Sequence[str]) -> InputContainer:
    """The file, opened by one of FFmpeg's readers that are named.

    Some of the others follow addresses within the file to other files and over the network;
    besides, no protocol but that of local files is allowed.

    Raises:
        av.FFmpegError: none of the readers knows what is in the file.
    """
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    return av.open(str(path.absolute()), metadata_errors="replace", options=options)


def demux_packets(container: InputContainer, track: Track) -> "Iterator[Packet[Stream]]":
    """The track's packets, as far as the container can be followed."""
    try:
        yield from container.demux(track)
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def decode_frames(container: InputContainer, track: Track) -> Iterator[Frame]:
    """The track's frames in the order of time; what a packet's damage spoils is left out."""
    for packet in demux_packets(container, track):
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except av.FFmpegError:
            continue
        yield from (frame for frame in frames if isinstance(frame, Frame))
