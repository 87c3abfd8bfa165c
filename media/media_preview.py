"""Some frames of a clip, the first seconds of a recording: what a page shows of longer files.

Only for people to look at: what encoders see is decoded elsewhere, under limits.
"""

import io
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
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

SECONDS = 10.0
"""Of a recording. The clips of AudioCaps have 10 s, AST listens to 10.24 s."""

RATE_HZ = 32_000
"""Of the excerpt, one of those that MP3 knows."""

FRAMES_AT_MOST = 600
"""Frames decoded for one that is shown; 20 s at 30 frames per second."""

SEEK_SECONDS = 4.0
"""Frames that lie further apart are sought out; between nearer ones all are decoded."""

WINDOW, SPECTRUM_HZ, RANGE_DB = 1024, 8000, 80.0
"""Of a spectrogram: samples per window (32 ms), highest frequency, and the range of its colours."""

SILENCE = 1e-6
"""Magnitude that is drawn black at the latest; a full-scale tone has 256."""

SPECTROGRAM_SIZE = (480, 144)
"""Pixels."""

READ_ERRORS = (av.error.FFmpegError, soundfile.LibsndfileError, OSError, ValueError, IndexError)
"""What reading a damaged file may raise."""

Samples = NDArray[np.float32]


def sample_frames(path: Path, count: int) -> list[Image.Image]:
    """The frames shown in the middles of `count` equal stretches, mode RGB, upright, own size.

    A clip that does not say how long it is gives the first of its frames alone. Where a file ends
    before the time it promises, the last frame stands again.

    Raises:
        One of READ_ERRORS: the file is none that FFmpeg reads, or holds no pictures.
    """
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        stream = find_video_stream(container, path)
        stream.codec_context.thread_count = 0  # as many as there are cores: nobody else decodes now
        stream.thread_type = "AUTO"
        duration, begin = container.duration or 0, container.start_time or 0
        parts = [begin + duration * (2 * part + 1) // (2 * count) for part in range(count)]
        far = duration > count * SEEK_SECONDS * av.time_base
        frames = container.decode(stream)
        shown: av.VideoFrame | None = None
        pictures = []
        for middle in parts if duration else [0]:
            if far:
                container.seek(middle)
                frames = container.decode(stream)
            shown, frames = _shown_at(middle / av.time_base, frames, shown)
            pictures.append(frame_to_rgb(shown))
        return pictures


def read_audio_excerpt(path: Path) -> Samples:
    """The first `SECONDS` of a recording, or of a clip's sound: (N) at `RATE_HZ`, N at least 1.

    Raises:
        One of READ_ERRORS: the file is none that FFmpeg reads, or holds no sound.
    """
    wanted = round(SECONDS * RATE_HZ)
    resampler = AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    parts: list[Samples] = []
    with closing(open_container(path, AUDIO_FORMATS)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            if sum(map(len, parts)) >= wanted:
                break
    samples: Samples = np.nan_to_num(np.concatenate(parts)[:wanted])  # an error if there are none
    if not len(samples):
        raise ValueError("there is no sound")
    return samples


def encode_mp3(samples: Samples) -> bytes:
    """(N) at `RATE_HZ` as a file that browsers play."""
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="MP3")
    return out.getvalue()


def spectrogram(samples: Samples) -> Image.Image:
    """How loud each pitch is over time: time to the right, pitch upwards, loud is bright.

    Args:
        samples: (N) at `RATE_HZ`.
    """
    from matplotlib import colormaps

    width, height = SPECTROGRAM_SIZE
    padded = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    starts = np.linspace(0, len(padded) - WINDOW, width).astype(int)
    windows = padded[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    bins = SPECTRUM_HZ * WINDOW // RATE_HZ
    loud = 20 * np.log10((np.abs(np.fft.rfft(windows)[:, :bins]).T[::-1] + SILENCE) / SILENCE)
    shade = np.clip((loud - max(loud.max(), RANGE_DB)) / RANGE_DB + 1, 0, 1)
    coloured = (255 * colormaps["magma"](shade)[..., :3]).astype(np.uint8)
    return Image.fromarray(coloured).resize((width, height), Image.Resampling.BILINEAR)


def video_codec_and_side(path: Path) -> tuple[str, int]:
    """FFmpeg's name of the codec of a clip's pictures, e.g. "h264", and their longer side, pixels.

    Raises:
        One of READ_ERRORS: the file is none that FFmpeg reads, or holds no pictures.
    """
    with closing(open_container(path, VIDEO_FORMATS)) as container:
        stream = find_video_stream(container, path)
        return stream.codec.canonical_name, max(stream.width, stream.height)


def _shown_at(
    second: float, frames: Iterator[av.VideoFrame], shown: av.VideoFrame | None
) -> tuple[av.VideoFrame, Iterator[av.VideoFrame]]:
    """The last frame that begins by then, and the frames that are left behind it.

    Raises:
        ValueError: there is none, and none was shown before.
    """
    for frame in islice(frames, FRAMES_AT_MOST):
        if shown is not None and (frame.time or 0.0) > second:
            return shown, _again(frame, frames)
        shown = frame
    if shown is None:
        raise ValueError("there are no pictures")
    return shown, frames


def _again(first: av.VideoFrame, rest: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    yield first
    yield from rest
