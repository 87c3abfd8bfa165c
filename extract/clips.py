"""Frames of clips from files: which are taken, and how they come out upright and of one size.

A clip is passed through twice: once to count its frames, which reads packets without decoding
them, and once to decode; a third time if it has other frames than it promises. Frames are counted
in the order they are shown, whatever their rate. A damaged clip is what of it can be decoded, if
that is at least half of what its header promises; Matroska and GIF promise nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from epalm.errors import MediaError
from epalm.extract.media import check_file, flatten
from epalm.extract.tracks import frames_of, open_container, packets_of

CLIP_FORMATS = (
    *("mov", "mp4", "avi", "matroska", "webm", "gif"),
    *("mpeg", "mpegts", "mpegvideo", "asf", "flv", "ogg"),
)
"""FFmpeg's readers that may be tried."""

CLIP_POLICY = "upright, alpha on white, damaged frames left out"
"""The rules above in one line, for the fingerprint of a store."""

MAX_FRAME_PIXELS = 8192 * 4320
"""A clip of larger frames is refused by its header; cinemas end there ("8K")."""

MAX_KEPT_PIXELS = 150_000_000
"""Frames that are kept of one clip may have so many pixels together: 0.45 GB as RGB."""

LEAST_SHARE = 0.5
"""A clip of which a smaller share can be decoded is refused."""

Choose = Callable[[int], Iterable[int]]
"""From the number of a clip's frames to the numbers of those that are wanted, 0-based."""


@dataclass(frozen=True)
class Clip:
    """What is kept of a clip.

    Attributes:
        count: frames that it has.
        frames: the wanted ones by number, mode RGB, all of the size of the clip's first frame.
    """

    count: int
    frames: dict[int, Image.Image]


def decode_clip(path: Path, choose: Choose) -> Clip:
    """The wanted frames of the clip in `path`.

    Args:
        path: a container of one of `CLIP_FORMATS`; its ending does not matter.
        choose: which frames; asked again if more or fewer can be decoded than the file promises.

    Raises:
        MediaError: no such file, not a clip, no frames, mostly damaged, or larger than the limits
            above. The message is one line and names the file.
    """
    check_file(path)
    try:
        return _decode(path, choose)
    except (MediaError, MemoryError):
        raise
    except av.error.FFmpegError as error:
        raise MediaError(f"{path.name}: cannot be decoded ({error.strerror})") from error
    except Exception as error:
        # PyAV raises several classes of its own and Python's; none may end a long run.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{path.name}: cannot be decoded ({reason})") from error


def _decode(path: Path, choose: Choose) -> Clip:
    promised = count = _count(path)
    while True:
        wanted = set(choose(count))
        frames, decoded = _frames(path, wanted)
        if decoded == count:
            return Clip(count, frames)
        if decoded < max(1.0, LEAST_SHARE * promised):
            raise MediaError(f"{path.name}: {decoded} of {promised} frames can be decoded")
        count = decoded


def _count(path: Path) -> int:
    """How many frames the clip promises; hidden and damaged ones count here.

    Raises:
        MediaError: none.
    """
    with closing(open_container(path, CLIP_FORMATS)) as container:
        stream = _stream(container, path)
        packets = sum(packet.size > 0 for packet in packets_of(container, stream))
        count = max(packets, stream.frames)
    if not count:
        raise MediaError(f"{path.name}: the clip has no frames")
    return count


def _stream(container: InputContainer, path: Path) -> VideoStream:
    """The first track of pictures; the cover of a recording is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise MediaError(f"{path.name}: no decoder for its pictures, or a damaged header")
            stream.codec_context.thread_count = 1
            return stream
    raise MediaError(f"{path.name}: there is no picture track")


def _frames(path: Path, wanted: set[int]) -> tuple[dict[int, Image.Image], int]:
    """The wanted frames as far as there are such, and how many can be decoded."""
    found: dict[int, Image.Image] = {}
    decoded = 0
    size = (0, 0)
    with closing(open_container(path, CLIP_FORMATS)) as container:
        for frame in _whole_frames(container, _stream(container, path)):
            if decoded == 0:
                size = _checked_size(frame, path, len(wanted))
            if decoded in wanted:
                picture = _upright(frame)
                found[decoded] = picture if picture.size == size else picture.resize(size)
            decoded += 1
    return found, decoded


def _whole_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order they are shown; damaged ones are left out."""
    for frame in frames_of(container, stream):
        if isinstance(frame, VideoFrame) and not frame.is_corrupt:
            yield frame


def _checked_size(frame: VideoFrame, path: Path, count: int) -> tuple[int, int]:
    """(width, height) of a frame, upright.

    Raises:
        MediaError: larger than the limits.
    """
    pixels = frame.width * frame.height
    if pixels > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{path.name}: {frame.width} x {frame.height} exceeds the limit of {MAX_FRAME_PIXELS} "
            "pixels"
        )
    if pixels * count > MAX_KEPT_PIXELS:
        raise MediaError(
            f"{path.name}: {count} frames of {frame.width} x {frame.height} exceed the limit of "
            f"{MAX_KEPT_PIXELS} pixels: make a smaller copy, or ask for fewer frames or views"
        )
    turned = frame.rotation % 180 != 0
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def _upright(frame: VideoFrame) -> Image.Image:
    """The frame as RGB, turned as its container says."""
    if any(component.is_alpha for component in frame.format.components):
        picture = flatten(Image.fromarray(frame.to_ndarray(format="rgba")))
    else:
        picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    turns = round(frame.rotation / 90) % 4
    return Image.fromarray(np.rot90(np.asarray(picture), turns)) if turns else picture
