"""Clips and recordings written by FFmpeg, for tests of what reads them."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

PICTURE_CODECS = {".gif": "gif", ".webm": "libvpx", ".avi": "mpeg4", ".mkv": "ffv1"}
SOUND_CODECS = {
    **{".webm": "libopus", ".opus": "libopus", ".mp3": "libmp3lame", ".avi": "mp2"},
    **{".mpg": "mp2", ".mkv": "flac", ".flac": "flac", ".wav": "pcm_s16le", ".mov": "pcm_s16le"},
}
"""By the ending of the file; any other gets H.264 and AAC."""

PIXEL_FORMATS = {"gif": "rgb8", "ffv1": "bgr0", "png": "rgb24", "mjpeg": "yuvj420p"}


def noise(seconds: float, *, rate: int = 44_100, channels: int = 2, seed: int = 0) -> np.ndarray:
    """(n, channels) float32."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((round(seconds * rate), channels)).astype(np.float32)


def pictures(count: int, *, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8: blocks of chance colours, which survive compression."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def write(
    path: Path,
    *,
    sound: np.ndarray | None = None,
    rate: int = 44_100,
    frames: np.ndarray | None = None,
    times: list[int] | None = None,
    container: str | None = None,
    codec: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A file with a sound track, a picture track at 10 Hz, or both.

    Args:
        path: its ending chooses container and codecs.
        sound: (n, channels) float32.
        rate: of the sound, Hz.
        frames: (count, height, width, 3) uint8.
        times: when each frame is shown, in units of 1/1000 s; by default 10 Hz.
        container: FFmpeg's name, where the ending is not to choose.
        codec: of the sound, likewise.
        options: of the container.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        if frames is not None:
            name = PICTURE_CODECS.get(path.suffix, "libx264")
            track = file.add_stream(name, rate=1000 if times else 10)
            track.height, track.width = frames.shape[1:3]
            track.pix_fmt = PIXEL_FORMATS.get(name, "yuv420p" if even(frames) else "yuv444p")
        if sound is not None:
            codec = codec or SOUND_CODECS.get(path.suffix, "aac")
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[sound.shape[1]]
            voice = file.add_stream(codec, rate=rate, layout=layout)
        if frames is not None:
            for number, picture in enumerate(frames):
                shown = VideoFrame.from_ndarray(picture, format="rgb24")
                shown.pts = times[number] if times else number
                shown.time_base = Fraction(1, 1000 if times else 10)
                file.mux(track.encode(shown))
            file.mux(track.encode())
        if sound is not None:
            for start in range(0, len(sound), 1000):
                heard = AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[start : start + 1000].T), "fltp", layout
                )
                heard.sample_rate, heard.pts = rate, start
                heard.time_base = Fraction(1, rate)
                file.mux(voice.encode(heard))
            file.mux(voice.encode())
    return path


def even(frames: np.ndarray) -> bool:
    """Whether colours may be halved."""
    return all(side % 2 == 0 for side in frames.shape[1:3])
