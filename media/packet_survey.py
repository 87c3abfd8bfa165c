"""What a clip's packets say before any is decoded: how many frames are shown, and when.

Not every packet is a frame that is shown. The edit list of an MP4 hides packets that are decoded
only because others refer to them; VP8 has packets with frames for reference alone; MPEG-4 in an
AVI has packets that stand for "no new frame".
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
"""A packet of MPEG-4 part 2 up to this size may hold no frame: FFmpeg's `MAX_NVOP_SIZE`."""

_VP8_SHOWN = 0x10
"""Bit of a VP8 packet's first byte (RFC 6386, section 9.1): the frame is to be shown."""


@dataclass(frozen=True)
class Survey:
    """What a clip promises.

    Attributes:
        count: frames that are shown, damaged ones included.
        times: when each is shown, in units of the track, ascending; empty unless each frame has a
            time of its own.
        key_times: of those that can be decoded without others, ascending, as far as known.
    """

    count: int
    times: list[int]
    key_times: list[int]


def survey_packets(
    path: Path,
    formats: Sequence[str],
    *,
    pick: Callable[[InputContainer, Path], VideoStream],
) -> Survey:
    """Read the packets of a clip without decoding them.

    Args:
        path: the clip.
        formats: FFmpeg's readers that may be tried.
        pick: which track.

    Raises:
        MediaError: no frame is shown.
    """
    with closing(open_container(path, formats)) as container:
        stream = pick(container, path)
        codec = stream.codec_context.name
        times: list[int | None] = []
        key_times = list[int]()
        certain = True
        for packet in demux_packets(container, stream):
            if packet.pts is not None and packet.is_keyframe:
                key_times.append(packet.pts)
            if _is_shown(packet, codec):
                times.append(packet.pts)
                certain &= codec != "mpeg4" or packet.size > EMPTY_MPEG4_BYTES
        count = max(len(times), _promised(container, stream))
    if not count:
        raise MediaError(f"{path.name}: the clip has no frames")
    known = sorted(time for time in times if time is not None)
    certain &= len(set(known)) == len(times)
    return Survey(count, known if certain else [], sorted(key_times))


def _is_shown(packet: "Packet[Stream]", codec: str) -> bool:
    if packet.size == 0 or packet.is_discard:
        return False
    return codec != "vp8" or bool(memoryview(packet)[0] & _VP8_SHOWN)


def _promised(container: InputContainer, stream: VideoStream) -> int:
    """Number of frames by the header; 0 if it does not say.

    The header's own number counts all frames of an MP4, its index those that the edit list shows.
    """
    if "mp4" in container.format.name and len(stream.index_entries):
        return sum(not entry.is_discard for entry in stream.index_entries)
    return stream.frames
