"""Frames of clips from files: which are taken, and how they come out upright and of one size.

A clip is passed through twice: once to count its frames, which reads packets without decoding
them (`epalm.media.packet_survey`), and once to decode; a third time if it has other frames than it
promises. Only frames that are shown count, in the order they are shown, whatever their rate. A
damaged clip is what of it can be decoded, if that is at least half of what its header promises;
Matroska and GIF promise nothing. Long clips are entered at their key frames instead of being
decoded whole.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from epalm.errors import MediaError
from epalm.media.av_container import decode_frames, open_container
from epalm.media.decode_damage import note_damage
from epalm.media.frame_orientation import UPRIGHT, apply_matrix, display_matrix, is_transposed
from epalm.media.image_decode import check_regular_file, flatten
from epalm.media.packet_survey import Survey, survey_packets

VIDEO_FORMATS = (
    *("mov", "mp4", "avi", "matroska", "webm", "gif"),
    *("mpeg", "mpegts", "mpegvideo", "asf", "flv", "ogg"),
)
"""FFmpeg's readers that may be tried."""

VIDEO_POLICY = "upright, alpha on white, damaged frames left out"
"""The rules above in one line, for the fingerprint of a store."""

MAX_FRAME_PIXELS = 8192 * 4320
"""A clip of larger frames is refused by its header; cinemas end there ("8K")."""

MAX_KEPT_PIXELS = 150_000_000
"""Frames that are kept of one clip may have so many pixels together: 0.45 GB as RGB."""

LONG_FRAMES = 3000
"""Of a longer clip, 100 s at 30 Hz, only what leads to the wanted frames is decoded."""

LEAST_SHARE = 0.5
"""A clip of which a smaller share can be decoded is refused."""

EARLIER_KEY_FRAMES = 2
"""From so many key frames before the nearest one a frame of a long clip is tried to be decoded."""

Choose = Callable[[int], Iterable[int]]
"""From the number of a clip's frames to the numbers of those that are wanted, 0-based."""


@dataclass(frozen=True)
class DecodedVideo:
    """What is kept of a clip.

    Attributes:
        count: frames that it has.
        frames: the wanted ones by number, mode RGB, all of the size of the clip's first frame.
    """

    count: int
    frames: dict[int, Image.Image]


def decode_video(path: Path, choose: Choose) -> DecodedVideo:
    """The wanted frames of the clip in `path`.

    Args:
        path: a container of one of `VIDEO_FORMATS`; its ending does not matter.
        choose: which frames; asked again if more or fewer can be decoded than the file promises.

    Raises:
        MediaError: no such file, not a clip, no frames, mostly damaged, or larger than the limits
            above. The message is one line and names the file.
    """
    check_regular_file(path)
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


def _decode(path: Path, choose: Choose) -> DecodedVideo:
    survey = survey_packets(path, VIDEO_FORMATS, pick=find_video_stream)
    if len(survey.times) > LONG_FRAMES and (clip := _decode_parts(path, survey, choose)):
        return clip
    count = survey.count
    while True:
        wanted = set(choose(count))
        frames, decoded = _frames(path, wanted)
        _check_share(path, decoded, survey.count)
        if decoded == count:
            _note_missing(path, decoded, survey.count)
            return DecodedVideo(count, frames)
        count = decoded


def _check_share(path: Path, decoded: int, promised: int) -> None:
    if decoded < max(1.0, LEAST_SHARE * promised):
        raise MediaError(f"{path.name}: {decoded} of {promised} frames can be decoded")


def _note_missing(path: Path, decoded: int, promised: int) -> None:
    if decoded < promised:
        note_damage(f"{path.name}: {decoded} of {promised} frames can be decoded")


def _decode_parts(path: Path, survey: Survey, choose: Choose) -> DecodedVideo | None:
    """The wanted frames, each decoded from the key frame before it.

    One that is damaged is replaced by the next.

    Returns:
        None if the container cannot be entered in its middle, or not where a frame needs it.

    Raises:
        MediaError: more than half of the frames are missing, or they are too large.
    """
    found: dict[int, Image.Image] = {}
    size = (0, 0)
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        stream = find_video_stream(container, path)
        first = next(_whole_frames(container, stream), None)
        if first is None or first.pts is None:
            return None
        # A clip cut before a key frame may begin with frames that refer to what was cut off.
        times = survey.times[bisect_left(survey.times, first.pts) :]
        _check_share(path, len(times), survey.count)
        wanted = sorted(set(choose(len(times))))
        for number in wanted:
            try:
                frame = _frame_at(times[number], container, stream, key_times=survey.key_times)
            except av.FFmpegError:
                return None
            if frame is None:
                return None
            size = size if found else _checked_size(frame, path, len(wanted))
            found[number] = _sized(frame_to_rgb(frame), size)
    _note_missing(path, len(times), survey.count)
    return DecodedVideo(len(times), found)


def _frame_at(
    time: int, container: InputContainer, stream: VideoStream, *, key_times: list[int]
) -> VideoFrame | None:
    """The frame shown at `time`; if it is damaged the next; None if neither can be reached.

    Raises:
        av.FFmpegError: the container cannot be entered there.
    """
    before = bisect_left(key_times, time)
    # Behind the key frame at which a container is entered may come frames that are shown before it
    # and need the key frame before that.
    for start in (time, *reversed(key_times[max(0, before - EARLIER_KEY_FRAMES) : before])):
        container.seek(start, stream=stream)
        frames = _whole_frames(container, stream)
        frame = next(frames, None)
        if frame is not None and frame.pts is not None and frame.pts <= time:
            return _first_from(time, chain([frame], frames))
    return None


def _first_from(time: int, frames: Iterator[VideoFrame]) -> VideoFrame | None:
    return next((frame for frame in frames if frame.pts is not None and frame.pts >= time), None)


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
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
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        for frame in _whole_frames(container, find_video_stream(container, path)):
            if decoded == 0:
                size = _checked_size(frame, path, len(wanted))
            if decoded in wanted:
                found[decoded] = _sized(frame_to_rgb(frame), size)
            decoded += 1
    return found, decoded


def _whole_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames in the order they are shown; damaged ones are left out."""
    for frame in decode_frames(container, stream):
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
    turned = is_transposed(display_matrix(frame))
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def _sized(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    return picture if picture.size == size else picture.resize(size)


def frame_to_rgb(frame: VideoFrame) -> Image.Image:
    """The frame as RGB, turned and mirrored as its container says."""
    if any(component.is_alpha for component in frame.format.components):
        picture = flatten(Image.fromarray(frame.to_ndarray(format="rgba")))
    else:
        picture = Image.fromarray(frame.to_ndarray(format="rgb24"))
    matrix = display_matrix(frame)
    if matrix == UPRIGHT:
        return picture
    return Image.fromarray(np.ascontiguousarray(apply_matrix(np.asarray(picture), matrix)))
