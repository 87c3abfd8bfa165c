"""Previews of videos and audio clips for HTML reports: evenly spaced frames, the first seconds.

Encoders do not use these: their inputs come from `video_decode` and `audio_decode`.
"""

import io
from collections.abc import Iterator
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
import soundfile
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray
from PIL import Image

from epalm.media.audio_decode import AUDIO_FORMATS
from epalm.media.av_container import open_container
from epalm.media.video_decode import VIDEO_FORMATS, find_video_stream, frame_to_rgb

EXCERPT_SECONDS = 10.0
"""Duration of an audio excerpt. AudioCaps clips have 10 s, and AST reads 10.24 s."""

RATE_HZ = 32_000
"""Sample rate of the excerpt; MP3 supports it."""

MAX_DECODED_FRAMES = 600
"""Limit of the frames decoded to reach one sampled frame: 20 s at 30 frames per second."""

SEEK_SECONDS = 4.0
"""Seek to sampled frames that are further apart; decode everything between closer ones."""

WINDOW, SPECTRUM_HZ, RANGE_DB = 1024, 8000, 80.0
"""Spectrogram: samples per window (32 ms), highest frequency, dynamic range of the colors."""

SILENCE = 1e-6
"""Magnitude at which a bin is black in any case; a full-scale tone has 256."""

SPECTROGRAM_SIZE = (480, 144)
"""Width and height, pixels."""

READ_ERRORS = (av.error.FFmpegError, soundfile.LibsndfileError, OSError, ValueError, IndexError)
"""Exceptions that reading a damaged file may raise."""

Samples = NDArray[np.float32]


def sample_frames(path: Path, count: int) -> list[Image.Image]:
    """Decode the frames at the middles of `count` equal segments: upright, mode RGB, original size.

    A video without a duration in its header gives only its first frame. Where a file ends before
    its duration, the last frame is repeated.

    Raises:
        One of READ_ERRORS: FFmpeg cannot read the file, or it has no video.
    """
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        stream = find_video_stream(container, path)
        stream.codec_context.thread_count = 0  # one thread per core: nothing else is decoding
        stream.thread_type = "AUTO"
        duration, start = container.duration or 0, container.start_time or 0
        times = [start + duration * (2 * part + 1) // (2 * count) for part in range(count)]
        seek = duration > count * SEEK_SECONDS * av.time_base
        frames = container.decode(stream)
        current: av.VideoFrame | None = None
        images = []
        for time in times if duration else [0]:
            if seek:
                container.seek(time)
                frames = container.decode(stream)
            current, frames = _frame_at_second(time / av.time_base, frames, current)
            images.append(frame_to_rgb(current))
        return images


def read_audio_excerpt(path: Path) -> Samples:
    """Read the first `EXCERPT_SECONDS` of audio: (N) mono samples at `RATE_HZ`, N at least 1.

    Raises:
        One of READ_ERRORS: FFmpeg cannot read the file, or it has no audio.
    """
    count = round(EXCERPT_SECONDS * RATE_HZ)
    resampler = AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    parts: list[Samples] = []
    with closing(open_container(path, AUDIO_FORMATS)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            if sum(map(len, parts)) >= count:
                break
    samples: Samples = np.nan_to_num(np.concatenate(parts)[:count])  # raises if there are none
    if not len(samples):
        raise ValueError("there is no audio")
    return samples


def encode_mp3(samples: Samples) -> bytes:
    """Encode (N) samples at `RATE_HZ` as an MP3 file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE_HZ, format="MP3")
    return buffer.getvalue()


def spectrogram(samples: Samples) -> Image.Image:
    """Draw a spectrogram: time to the right, frequency upwards, loud is bright.

    Args:
        samples: (N) samples at `RATE_HZ`.
    """
    from matplotlib import colormaps

    width, height = SPECTROGRAM_SIZE
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    starts = np.linspace(0, len(padded) - WINDOW, width).astype(int)
    windows = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    bins = SPECTRUM_HZ * WINDOW // RATE_HZ
    level_db = 20 * np.log10((np.abs(np.fft.rfft(windows)[:, :bins]).T[::-1] + SILENCE) / SILENCE)
    shade = np.clip((level_db - max(level_db.max(), RANGE_DB)) / RANGE_DB + 1, 0, 1)
    colored = (255 * colormaps["magma"](shade)[..., :3]).astype(np.uint8)
    return Image.fromarray(colored).resize((width, height), Image.Resampling.BILINEAR)


def video_codec_and_side(path: Path) -> tuple[str, int]:
    """FFmpeg's name of the video codec, e.g. "h264", and the longer side of the frames in pixels.

    Raises:
        One of READ_ERRORS: FFmpeg cannot read the file, or it has no video.
    """
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        stream = find_video_stream(container, path)
        return stream.codec.canonical_name, max(stream.width, stream.height)


def _frame_at_second(
    second: float, frames: Iterator[av.VideoFrame], current: av.VideoFrame | None
) -> tuple[av.VideoFrame, Iterator[av.VideoFrame]]:
    """The last frame that begins by `second`, and the iterator of the frames after it.

    Raises:
        ValueError: there are no more frames, and there is no current one.
    """
    for frame in islice(frames, MAX_DECODED_FRAMES):
        if current is not None and (frame.time or 0.0) > second:
            return current, chain([frame], frames)
        current = frame
    if current is None:
        raise ValueError("there are no frames")
    return current, frames
