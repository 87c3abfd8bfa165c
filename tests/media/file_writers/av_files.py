"""Write small video and audio files with FFmpeg, for tests of decoders."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

VIDEO_CODECS = {".gif": "gif", ".webm": "libvpx", ".avi": "mpeg4", ".mkv": "ffv1"}
AUDIO_CODECS = {
    **{".webm": "libopus", ".opus": "libopus", ".mp3": "libmp3lame", ".avi": "mp2"},
    **{".mpg": "mp2", ".mkv": "flac", ".flac": "flac", ".wav": "pcm_s16le", ".mov": "pcm_s16le"},
}
"""Codec by file extension; other extensions use H.264 and AAC."""

PIXEL_FORMATS = {"gif": "rgb8", "ffv1": "bgr0", "png": "rgb24", "mjpeg": "yuvj420p"}


def noise(seconds: float, *, rate: int = 44_100, channels: int = 2, seed: int = 0) -> np.ndarray:
    """White noise, (n, channels) float32."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((round(seconds * rate), channels)).astype(np.float32)


def random_frames(count: int, *, width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8: blocks of random colors, which survive compression."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def write_media(
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
    """Write a file with an audio track, a video track at 10 Hz, or both.

    Args:
        path: the extension selects container and codecs.
        sound: audio samples, (n, channels) float32.
        rate: sample rate, Hz.
        frames: video frames, (count, height, width, 3) uint8.
        times: timestamp of each frame in ms; by default 10 Hz.
        container: FFmpeg's name of the container, overriding the extension.
        codec: FFmpeg's name of the audio codec, overriding the extension.
        options: options of the container.
    """
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        if frames is not None:
            name = VIDEO_CODECS.get(path.suffix, "libx264")
            track = file.add_stream(name, rate=1000 if times else 10)
            track.height, track.width = frames.shape[1:3]
            track.pix_fmt = PIXEL_FORMATS.get(
                name, "yuv420p" if has_even_sides(frames) else "yuv444p"
            )
        if sound is not None:
            codec = codec or AUDIO_CODECS.get(path.suffix, "aac")
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[sound.shape[1]]
            audio = file.add_stream(codec, rate=rate, layout=layout)
        if frames is not None:
            for number, pixels in enumerate(frames):
                frame = VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts = times[number] if times else number
                frame.time_base = Fraction(1, 1000 if times else 10)
                file.mux(track.encode(frame))
            file.mux(track.encode())
        if sound is not None:
            for start in range(0, len(sound), 1000):
                block = AudioFrame.from_ndarray(
                    np.ascontiguousarray(sound[start : start + 1000].T), "fltp", layout
                )
                block.sample_rate, block.pts = rate, start
                block.time_base = Fraction(1, rate)
                file.mux(audio.encode(block))
            file.mux(audio.encode())
    return path


def has_even_sides(frames: np.ndarray) -> bool:
    """Whether chroma subsampling is possible."""
    return all(side % 2 == 0 for side in frames.shape[1:3])
