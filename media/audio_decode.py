"""Decode the first seconds of an audio file or of a video's audio track.

libsndfile reads the common audio formats; FFmpeg reads all others and the audio tracks of videos.
Only the requested duration is decoded, however long the file is. Samples are scaled to -1..1; files
of floating-point samples may exceed that range.
"""

import math
import re
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from epalm.errors import MediaError
from epalm.media.av_container import decode_frames, open_container
from epalm.media.decode_damage import note_damage
from epalm.media.image_decode import check_regular_file

AUDIO_POLICY = "as stored, damaged packets left out, at least half of what the header promises"
"""How this module decodes, in one line; part of a store's fingerprint."""

SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"caff")
"""First bytes of the files that libsndfile reads. MP3 is excluded, since libsndfile's MP3 decoder
writes to the terminal."""

AUDIO_FORMATS = (
    *("mov", "mp4", "matroska", "webm", "avi", "gif", "asf", "flv", "mpeg", "mpegts"),
    *("mp3", "aac", "ogg", "flac", "wav", "w64", "aiff", "au", "caf"),
)
"""FFmpeg demuxers that may be tried."""

ESTIMATED_DURATION_FORMATS = ("mp3", "aac")
"""FFmpeg demuxers that estimate the duration from the file size, which is not a reliable length. An
exception is an MP3 that begins with the frame in which encoders store their name and the length."""

SAMPLE_RATE_RANGE = (1_000, 768_000)
"""Lowest and highest accepted sample rate, Hz."""

MAX_CHANNELS = 64
"""Seventh-order ambisonics has 64 channels; a header with more is damaged."""

MAX_SAMPLES = 60_000_000
"""Limit of seconds x sample rate x channels decoded from one file: 0.24 GB as float32."""

MIN_DECODED_FRACTION = 0.5
"""A file is refused if a smaller fraction of the duration in its header can be decoded."""

MAX_UNREPORTED_GAP_SECONDS = 0.1
"""A shortfall up to this duration is not reported: headers count the padding of some codecs."""

_TRUNCATED = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""libsndfile's log of a truncated file: bytes according to the header, bytes in the file."""

_STREAMED_BYTES = 0x7FFF_0000
"""Programs that write to a pipe put at least this many bytes in the header."""

_UNKNOWN_FRAMES = 1 << 62
"""libsndfile reports at least this many frames if the header has no length."""


@dataclass(frozen=True)
class AudioClip:
    """The beginning of an audio file.

    Attributes:
        samples: float32 samples, (channels, n).
        rate: sample rate, Hz.
    """

    samples: npt.NDArray[np.float32]
    rate: int


@dataclass(frozen=True)
class _DecodeResult:
    """A decoded clip, and the number of samples according to the header (0: unknown)."""

    clip: AudioClip
    expected: float


def decode_audio(path: Path, *, seconds: float) -> AudioClip:
    """Decode the first `seconds` of an audio file or of a video's audio track.

    Raises:
        MediaError: the file is missing, is not audio, has no audio track or no samples, is mostly
            damaged, has NaN or infinite samples, or exceeds the limits above. The message is one
            line and names the file.
    """
    check_regular_file(path)
    try:
        result = _read(path, seconds)
        _check(result, seconds, name=path.name)
    except (av.InvalidDataError, av.ArgumentError, av.error.EOFError) as error:
        raise MediaError(
            f"{path.name}: not a supported audio or video file, or its header is damaged "
            f"(supported formats: {', '.join(AUDIO_FORMATS)})"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # PyAV raises several classes of its own and of Python; none may end a long run.
        # Errors of the system and of FFmpeg would print the whole path, so use strerror.
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise MediaError(f"{path.name}: {reason or type(error).__name__}") from error
    return result.clip


def _read(path: Path, seconds: float) -> _DecodeResult:
    with path.open("rb", buffering=0) as file:
        if file.read(4) in SNDFILE_MAGIC:
            file.seek(0)
            # Fall back to FFmpeg, which knows more codecs, continues after damage, and reads files
            # whose length was never written to the header.
            with suppress(soundfile.LibsndfileError):
                result = _read_with_sndfile(file.fileno(), seconds)
                if result.clip.samples.size:
                    return result
    return _read_with_ffmpeg(path, seconds)


def _check(result: _DecodeResult, seconds: float, *, name: str) -> None:
    """Refuse unusable audio, and note missing samples.

    Raises:
        ValueError: too few samples, or some that are NaN or infinite.
    """
    samples, rate = result.clip.samples, result.clip.rate
    count = samples.shape[1]
    expected = min(result.expected, seconds * rate)
    if count < MIN_DECODED_FRACTION * expected:
        raise ValueError(
            f"{count / rate:.2f} of {expected / rate:.2f} seconds can be decoded, less than half"
        )
    if count < expected - MAX_UNREPORTED_GAP_SECONDS * rate:
        note_damage(f"{name}: {count / rate:.2f} of {expected / rate:.2f} seconds can be decoded")
    invalid = ~np.isfinite(samples)
    if invalid.any():
        first = int(invalid.any(axis=0).argmax()) / rate
        raise ValueError(f"{invalid.sum()} samples are NaN or infinite, the first at {first:.3f} s")


def _check_header(rate: int, channels: int, seconds: float) -> None:
    """Refuse an implausible header before memory is allocated.

    Raises:
        ValueError: the sample rate, the number of channels or the number of samples exceeds its
            limit.
    """
    low, high = SAMPLE_RATE_RANGE
    if not low <= rate <= high:
        raise ValueError(f"the sample rate is {rate} Hz, supported are {low} to {high} Hz")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{channels} channels, supported are 1 to {MAX_CHANNELS}")
    if seconds * rate * channels > MAX_SAMPLES:
        raise ValueError(
            f"{seconds:g} seconds of {channels} channels at {rate} Hz exceed the limit of "
            f"{MAX_SAMPLES} samples"
        )


def _read_with_sndfile(descriptor: int, seconds: float) -> _DecodeResult:
    """Decode an open file with libsndfile.

    Raises:
        LibsndfileError: libsndfile does not support the format, or the file is damaged.
    """
    with soundfile.SoundFile(descriptor, closefd=False) as file:
        _check_header(file.samplerate, file.channels, seconds)
        count = math.ceil(seconds * file.samplerate)
        samples = file.read(count, dtype="float32", always_2d=True).T
        return _DecodeResult(AudioClip(samples, file.samplerate), _sndfile_length(file))


def _sndfile_length(file: soundfile.SoundFile) -> float:
    """Number of samples per channel according to the header; 0 if unknown.

    For a truncated file, `file.frames` counts the samples that are there.
    """
    truncated = _TRUNCATED.search(file.extra_info)
    if truncated is None:
        return float(file.frames) if file.frames < _UNKNOWN_FRAMES else 0.0
    expected, available = int(truncated[1]), int(truncated[2])
    return file.frames * expected / max(available, 1) if expected < _STREAMED_BYTES else 0.0


def _read_with_ffmpeg(path: Path, seconds: float) -> _DecodeResult:
    with closing(open_container(path, AUDIO_FORMATS)) as container:
        stream = _find_audio_stream(container)
        rate, blocks = 0, list[npt.NDArray[np.float32]]()
        remaining = math.inf
        for frame in decode_frames(container, stream):
            if not isinstance(frame, AudioFrame) or not frame.samples:
                continue
            channels = frame.layout.nb_channels
            if not blocks:
                rate = frame.sample_rate
                _check_header(rate, channels, seconds)
                remaining = math.ceil(seconds * rate)
            elif (frame.sample_rate, channels) != (rate, len(blocks[0])):
                break  # another recording follows, or damage
            blocks.append(_to_float32(frame)[:, : int(remaining)])
            remaining -= frame.samples
            if remaining <= 0:
                break
        if not blocks:
            raise ValueError("no audio samples can be decoded")
        samples = np.concatenate(blocks, axis=1)
        return _DecodeResult(AudioClip(samples, rate), rate * _header_seconds(container, stream))


def _find_audio_stream(container: InputContainer) -> AudioStream:
    """The first audio stream that can be decoded.

    Raises:
        ValueError: there is none.
    """
    streams = container.streams.audio
    if not streams:
        raise ValueError("there is no audio track")
    for stream in streams:
        if stream.codec_context is not None:
            return stream
    raise ValueError("there is no decoder for the audio track, or its header is damaged")


def _to_float32(frame: AudioFrame) -> npt.NDArray[np.float32]:
    """Samples of a frame, (channels, n); integers are scaled to -1..1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "u":
        values = values.astype(np.float32) / 128 - 1
    elif values.dtype.kind == "i":
        values = values / 2.0 ** (8 * values.itemsize - 1)
    return values.astype(np.float32)


def _header_seconds(container: InputContainer, stream: AudioStream) -> float:
    """Duration of the audio according to the header; 0 if unknown."""
    if container.format.name in ESTIMATED_DURATION_FORMATS and "encoder" not in stream.metadata:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        # For an AVI, `duration` counts what is in the file, `frames` what the header lists.
        listed = stream.frames if container.format.name == "avi" else 0
        return float(max(stream.duration, listed) * stream.time_base)
    # A container's duration is that of its longest stream.
    is_only_stream = len(container.streams) == 1
    return (container.duration or 0) / av.time_base if is_only_stream else 0.0
