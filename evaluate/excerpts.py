"""One still of a clip, the first seconds of a recording: what a page shows of files it cannot hold.

Only for people to look at: what encoders see is decoded elsewhere, under limits.
"""

import io
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
import numpy as np
import soundfile
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from PIL import Image

SECONDS = 10.0
"""Of a recording. The clips of AudioCaps have 10 s, AST listens to 10.24 s."""

RATE_HZ = 32_000
"""Of the excerpt, one of those that MP3 knows."""

FRAMES_AT_MOST = 600
"""Frames decoded from the key frame before the middle on; 20 s at 30 frames per second."""

READ_ERRORS = (av.error.FFmpegError, soundfile.LibsndfileError, OSError, ValueError, IndexError)
"""What reading a damaged file may raise."""


def middle_frame(path: Path) -> Image.Image:
    """The frame shown half way through a clip, mode RGB, upright, own size.

    Raises:
        One of READ_ERRORS: the file is none that FFmpeg reads, or holds no pictures.
    """
    with closing(_open(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        middle = (container.duration or 0) // 2
        if middle:
            container.seek(middle + (container.start_time or 0))
        shown = None
        for frame in islice(container.decode(video=0), FRAMES_AT_MOST):
            if shown is not None and (frame.time or 0.0) * av.time_base > middle:
                break
            shown = frame
        if shown is None:
            raise ValueError("there are no pictures")
        picture = Image.fromarray(shown.to_ndarray(format="rgb24"))
        return picture.rotate(shown.rotation, expand=True)


def first_seconds(path: Path) -> bytes:
    """The first `SECONDS` of a recording, or of a clip's sound, as one channel of MP3.

    Raises:
        One of READ_ERRORS: the file is none that FFmpeg reads, or holds no sound.
    """
    wanted = round(SECONDS * RATE_HZ)
    resampler = AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    parts: list[np.ndarray] = []
    with closing(_open(path)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            if sum(map(len, parts)) >= wanted:
                break
    samples = np.concatenate(parts)[:wanted]  # an error if there are none
    out = io.BytesIO()
    soundfile.write(out, np.nan_to_num(samples), RATE_HZ, format="MP3")
    return out.getvalue()


def kind_of_pictures(path: Path) -> tuple[str, int]:
    """FFmpeg's name of the codec of a clip's pictures, e.g. "h264", and their longer side, pixels.

    Raises:
        One of READ_ERRORS: the file is none that FFmpeg reads, or holds no pictures.
    """
    with closing(_open(path)) as container:
        stream = container.streams.video[0]
        return stream.codec.canonical_name, max(stream.width, stream.height)


def _open(path: Path) -> InputContainer:
    """Without a network, whatever addresses the file may hold."""
    return av.open(str(path.absolute()), options={"protocol_whitelist": "file"})
