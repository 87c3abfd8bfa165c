"""Decode chosen frames of a video to upright RGB images of one size.

A video is read twice: once to count its frames, which reads packets without decoding them
(`epalm.media.packet_survey`), and once to decode; a third time if the number of decoded frames
differs from that count. Only displayed frames count, in presentation order, whatever the frame
rate. A damaged video is accepted if at least half of the frames in its header can be decoded;
Matroska and GIF headers have no frame count. In long videos the decoder seeks to key frames
instead of decoding everything.
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
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from epalm.errors import MediaError
from epalm.media.av_container import decode_frames, open_container
from epalm.media.decode_damage import note_damage
from epalm.media.frame_orientation import UPRIGHT, apply_matrix, display_matrix, is_transposed
from epalm.media.image_decode import check_regular_file, flatten
from epalm.media.packet_survey import PacketSurvey, survey_packets

VIDEO_FORMATS = (
    *("mov", "mp4", "avi", "matroska", "webm", "gif"),
    *("mpeg", "mpegts", "mpegvideo", "asf", "flv", "ogg"),
)
"""FFmpeg demuxers that may be tried."""

VIDEO_POLICY = "upright, alpha on white, damaged frames left out"
"""How this module decodes, in one line; part of a store's fingerprint."""

MAX_FRAME_PIXELS = 8192 * 4320
"""A video whose frames are larger than 8K is refused."""

MAX_TOTAL_PIXELS = 150_000_000
"""Limit of the pixels of all chosen frames of one video together: 0.45 GB as RGB."""

SEEK_ABOVE_FRAMES = 3000
"""A video with more frames (100 s at 30 Hz) is decoded by seeking to the chosen frames."""

MIN_DECODED_FRACTION = 0.5
"""A video is refused if a smaller fraction of its frames can be decoded."""

EARLIER_KEY_FRAMES = 2
"""Number of key frames before the nearest one from which decoding is tried as well."""

FrameChoice = Callable[[int], Iterable[int]]
"""Maps the number of frames of a video to the indices of the frames to decode, 0-based."""


@dataclass(frozen=True)
class DecodedVideo:
    """The chosen frames of a video.

    Attributes:
        count: number of frames of the whole video.
        frames: index -> frame of mode RGB; all have the size of the first one.
    """

    count: int
    frames: dict[int, Image.Image]


def decode_video(path: Path, choose: FrameChoice) -> DecodedVideo:
    """Decode the chosen frames of a video.

    Args:
        path: a container of one of `VIDEO_FORMATS`; its extension is ignored.
        choose: selects the frames; called again if more or fewer frames can be decoded than its
            header and packets indicate.

    Raises:
        MediaError: the file is missing, not a video, has no frames, is mostly damaged, or exceeds
            the limits above. The message is one line and names the file.
    """
    check_regular_file(path)
    try:
        return _decode(path, choose)
    except (MediaError, MemoryError):
        raise
    except av.error.FFmpegError as error:
        raise MediaError(f"{path.name}: cannot be decoded ({error.strerror})") from error
    except Exception as error:
        # PyAV raises several classes of its own and of Python; none may end a long run.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MediaError(f"{path.name}: cannot be decoded ({reason})") from error


def _decode(path: Path, choose: FrameChoice) -> DecodedVideo:
    survey = survey_packets(path, VIDEO_FORMATS, pick=find_video_stream)
    if len(survey.times) > SEEK_ABOVE_FRAMES:
        video = _decode_by_seeking(path, survey, choose)
        if video is not None:
            return video
    count = survey.count
    while True:
        frames, decoded = _decode_all(path, set(choose(count)))
        _check_decoded(path, decoded, survey.count)
        if decoded == count:
            _note_missing(path, decoded, survey.count)
            return DecodedVideo(count, frames)
        count = decoded


def _check_decoded(path: Path, decoded: int, expected: int) -> None:
    if decoded < max(1.0, MIN_DECODED_FRACTION * expected):
        raise MediaError(f"{path.name}: {decoded} of {expected} frames can be decoded")


def _note_missing(path: Path, decoded: int, expected: int) -> None:
    if decoded < expected:
        note_damage(f"{path.name}: {decoded} of {expected} frames can be decoded")


def _decode_by_seeking(
    path: Path, survey: PacketSurvey, choose: FrameChoice
) -> DecodedVideo | None:
    """Decode each chosen frame from the key frame before it; a damaged one becomes the next.

    Returns:
        The video; None if the container does not support seeking, or not to where a frame needs it.

    Raises:
        MediaError: more than half of the frames are missing, or they are too large.
    """
    frames: dict[int, Image.Image] = {}
    size = (0, 0)
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        stream = find_video_stream(container, path)
        first = next(_intact_frames(container, stream), None)
        if first is None or first.pts is None:
            return None
        # A video cut before a key frame may begin with frames whose references were cut off.
        times = survey.times[bisect_left(survey.times, first.pts) :]
        _check_decoded(path, len(times), survey.count)
        indices = sorted(set(choose(len(times))))
        for index in indices:
            try:
                frame = _frame_at(times[index], container, stream, key_times=survey.key_times)
            except av.FFmpegError:
                return None
            if frame is None:
                return None
            size = size if frames else _checked_size(frame, path, len(indices))
            frames[index] = _resized(frame_to_rgb(frame), size)
    _note_missing(path, len(times), survey.count)
    return DecodedVideo(len(times), frames)


def _frame_at(
    time: int, container: InputContainer, stream: VideoStream, *, key_times: list[int]
) -> VideoFrame | None:
    """The frame displayed at `time`, or the next one if it is damaged; None if neither is reached.

    Raises:
        av.FFmpegError: the container cannot seek to it.
    """
    before = bisect_left(key_times, time)
    # Frames after a key frame in the file may be displayed before it; they need the key frame
    # before that one.
    for start in (time, *reversed(key_times[max(0, before - EARLIER_KEY_FRAMES) : before])):
        container.seek(start, stream=stream)
        frames = _intact_frames(container, stream)
        frame = next(frames, None)
        if frame is not None and frame.pts is not None and frame.pts <= time:
            return _first_from(time, chain([frame], frames))
    return None


def _first_from(time: int, frames: Iterator[VideoFrame]) -> VideoFrame | None:
    return next((frame for frame in frames if frame.pts is not None and frame.pts >= time), None)


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not the cover image of an audio file.

    Raises:
        MediaError: there is none, or FFmpeg has no decoder for it.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise MediaError(
                    f"{path.name}: there is no decoder for the video track, or its header is "
                    "damaged"
                )
            stream.codec_context.thread_count = 1
            return stream
    raise MediaError(f"{path.name}: there is no video track")


def _decode_all(path: Path, indices: set[int]) -> tuple[dict[int, Image.Image], int]:
    """The frames with these indices as far as they exist, and the number of frames decoded."""
    frames: dict[int, Image.Image] = {}
    decoded = 0
    size = (0, 0)
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        for frame in _intact_frames(container, find_video_stream(container, path)):
            if decoded == 0:
                size = _checked_size(frame, path, len(indices))
            if decoded in indices:
                frames[decoded] = _resized(frame_to_rgb(frame), size)
            decoded += 1
    return frames, decoded


def _intact_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames in presentation order without the damaged ones."""
    for frame in decode_frames(container, stream):
        if isinstance(frame, VideoFrame) and not frame.is_corrupt:
            yield frame


def _checked_size(frame: VideoFrame, path: Path, count: int) -> tuple[int, int]:
    """(width, height) of a frame after rotation.

    Raises:
        MediaError: the frame, or `count` such frames together, exceed the limits.
    """
    pixels = frame.width * frame.height
    if pixels > MAX_FRAME_PIXELS:
        raise MediaError(
            f"{path.name}: {frame.width} x {frame.height} exceeds the limit of {MAX_FRAME_PIXELS} "
            "pixels"
        )
    if pixels * count > MAX_TOTAL_PIXELS:
        raise MediaError(
            f"{path.name}: {count} frames of {frame.width} x {frame.height} exceed the limit of "
            f"{MAX_TOTAL_PIXELS} pixels: downscale the video, or use fewer frames or views"
        )
    transposed = is_transposed(display_matrix(frame))
    return (frame.height, frame.width) if transposed else (frame.width, frame.height)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size)


def frame_to_rgb(frame: VideoFrame) -> Image.Image:
    """Convert a frame to RGB, rotated and mirrored as its container specifies."""
    alpha = any(component.is_alpha for component in frame.format.components)
    # A frame's own reformatter (to_ndarray with a format) starts a thread per core, 20 MB, and is
    # kept as long as the frame, which reading its side data makes part of a reference cycle.
    converted = VideoReformatter().reformat(frame, format="rgba" if alpha else "rgb24", threads=1)
    image = Image.fromarray(converted.to_ndarray())
    image = flatten(image) if alpha else image
    matrix = display_matrix(frame)
    if matrix == UPRIGHT:
        return image
    return Image.fromarray(np.ascontiguousarray(apply_matrix(np.asarray(image), matrix)))
