"""Count the displayed frames of a video, and read their timestamps, without decoding.

Not every packet is a displayed frame. The edit list of an MP4 hides packets that are decoded only
as references for others; VP8 has packets for reference frames only; MPEG-4 in an AVI has packets
that mean "no new frame".
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from epalm.errors import MediaError
from epalm.media.av_container import demux_packets, open_container

EMPTY_MPEG4_BYTES = 19
"""An MPEG-4 part 2 packet up to this size may contain no frame: FFmpeg's `MAX_NVOP_SIZE`."""

_VP8_DISPLAYED = 0x10
"""Bit of a VP8 packet's first byte: the frame is displayed (RFC 6386, section 9.1)."""


@dataclass(frozen=True)
class PacketSurvey:
    """Displayed frames of a video according to its packets and header.

    Attributes:
        count: number of displayed frames, damaged ones included.
        times: timestamp of each frame in units of the stream's time base, ascending; empty unless
            each frame has a timestamp of its own.
        key_times: known timestamps of key frames, ascending.
    """

    count: int
    times: list[int]
    key_times: list[int]


def survey_packets(
    path: Path,
    formats: Sequence[str],
    *,
    pick: Callable[[InputContainer, Path], VideoStream],
) -> PacketSurvey:
    """Read the packets of a video without decoding them.

    Args:
        path: the video file.
        formats: FFmpeg demuxers that may be tried.
        pick: selects the video stream.

    Raises:
        MediaError: the video has no frames.
    """
    with closing(open_container(path, formats)) as container:
        stream = pick(container, path)
        codec = stream.codec_context.name
        times: list[int | None] = []
        key_times = list[int]()
        unambiguous = True
        for packet in demux_packets(container, stream):
            if packet.pts is not None and packet.is_keyframe:
                key_times.append(packet.pts)
            if _is_displayed(packet, codec):
                times.append(packet.pts)
                unambiguous &= codec != "mpeg4" or packet.size > EMPTY_MPEG4_BYTES
        count = max(len(times), _header_frames(container, stream))
    if not count:
        raise MediaError(f"{path.name}: the video has no frames")
    known = sorted(time for time in times if time is not None)
    unambiguous &= len(set(known)) == len(times)
    return PacketSurvey(count, known if unambiguous else [], sorted(key_times))


def _is_displayed(packet: "Packet[Stream]", codec: str) -> bool:
    if packet.size == 0 or packet.is_discard:
        return False
    return codec != "vp8" or bool(memoryview(packet)[0] & _VP8_DISPLAYED)


def _header_frames(container: InputContainer, stream: VideoStream) -> int:
    """Number of frames according to the header; 0 if unknown.

    For an MP4, the header's frame count includes the frames that the edit list hides, its index
    does not.
    """
    if "mp4" in container.format.name and len(stream.index_entries):
        return sum(not entry.is_discard for entry in stream.index_entries)
    return stream.frames
