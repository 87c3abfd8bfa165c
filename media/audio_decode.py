"""Recordings from files: the first seconds of whatever sound the file holds, or one reason.

Libsndfile reads the usual formats of recordings, FFmpeg all others and the sound tracks of clips.
Only what is asked for is decoded, however long the file is. Values are as the file has them: -1 to
1, save where a file of floats says otherwise.
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
"""The rules of this file in one line, for the fingerprint of a store."""

SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b".snd", b"caff")
"""First bytes of what libsndfile is given. MP3 is not: its reader there writes to the terminal."""

AUDIO_FORMATS = (
    *("mov", "mp4", "matroska", "webm", "avi", "gif", "asf", "flv", "mpeg", "mpegts"),
    *("mp3", "aac", "ogg", "flac", "wav", "w64", "aiff", "au", "caf"),
)
"""FFmpeg's readers that may be tried."""

UNMEASURED = ("mp3", "aac")
"""FFmpeg's readers that guess how long a file is from its size, which promises nothing; unless an
MP3 begins with the frame in which encoders leave their name and the length."""

RATES = (1_000, 768_000)
"""Lowest and highest accepted rate, Hz."""

MAX_CHANNELS = 64
"""Ambisonics of seventh order; a header with more is damaged."""

MAX_VALUES = 60_000_000
"""Seconds x rate x channels that may be asked of one file: 0.24 GB."""

LEAST_SHARE = 0.5
"""A file of which less can be decoded is refused, as a share of what its header promises."""

NOTED_SECONDS = 0.1
"""What may be missing without a note: headers count the samples that some codecs add."""

_CUT = re.compile(r"^ *(?:data|SSND|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile says that a file ends before its samples do: bytes promised, bytes there."""

_ENDLESS = 0x7FFF_0000
"""Programs that write to a pipe put this many bytes, or more, where they cannot know."""

_UNKNOWN_FRAMES = 1 << 62
"""Libsndfile counts so many, or more, where the header does not say."""


@dataclass(frozen=True)
class AudioClip:
    """The beginning of a recording.

    Attributes:
        samples: (channels, n).
        rate: samples per second, Hz.
    """

    samples: npt.NDArray[np.float32]
    rate: int


@dataclass(frozen=True)
class _Reading:
    """What was decoded, and how many samples of it the header promises (0: it does not say)."""

    sound: AudioClip
    promised: float


def decode_audio(path: Path, *, seconds: float) -> AudioClip:
    """The first `seconds` of the recording, or of the clip's sound track, in `path`.

    Raises:
        MediaError: no such file, not a sound, no sound track, no samples, mostly damaged, with
            values that are no numbers, or beyond the limits above. The message is one line and
            names the file.
    """
    check_regular_file(path)
    try:
        reading = _read(path, seconds)
        _check(reading, seconds, name=path.name)
    except (av.InvalidDataError, av.ArgumentError, av.error.EOFError) as error:
        wanted = ", ".join(AUDIO_FORMATS)
        raise MediaError(
            f"{path.name}: neither sound nor clip, or its header is damaged; wanted one of {wanted}"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # PyAV raises several classes of its own and Python's; none may end a long run.
        # The system's and FFmpeg's errors would print the whole path.
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise MediaError(f"{path.name}: {reason or type(error).__name__}") from error
    return reading.sound


def _read(path: Path, seconds: float) -> _Reading:
    with path.open("rb", buffering=0) as file:
        if file.read(4) in SNDFILE_MAGIC:
            file.seek(0)
            # FFmpeg knows more codecs, reads on behind damage, and reads what a recorder left when
            # it ended before it wrote how much there is.
            with suppress(soundfile.LibsndfileError):
                reading = _read_with_sndfile(file.fileno(), seconds)
                if reading.sound.samples.size:
                    return reading
    return _read_with_ffmpeg(path, seconds)


def _check(reading: _Reading, seconds: float, *, name: str) -> None:
    """Refuse what is no recording, and note what is not all of one.

    Raises:
        ValueError: too few samples, or some that are no numbers.
    """
    samples, rate = reading.sound.samples, reading.sound.rate
    count = samples.shape[1]
    wanted = min(reading.promised, seconds * rate)
    if count < LEAST_SHARE * wanted:
        raise ValueError(
            f"{count / rate:.2f} of {wanted / rate:.2f} seconds can be decoded, less than half"
        )
    if count < wanted - NOTED_SECONDS * rate:
        note_damage(f"{name}: {count / rate:.2f} of {wanted / rate:.2f} seconds can be decoded")
    strange = ~np.isfinite(samples)
    if strange.any():
        first = int(strange.any(axis=0).argmax()) / rate
        raise ValueError(f"{strange.sum()} samples are no numbers, the first at {first:.3f} s")


def _check_shape(rate: int, channels: int, seconds: float) -> None:
    """Refuse before memory is taken.

    Raises:
        ValueError: a header that no recording has, or too much at once.
    """
    low, high = RATES
    if not low <= rate <= high:
        raise ValueError(f"{rate} samples a second, accepted are {low} to {high}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{channels} channels, accepted are 1 to {MAX_CHANNELS}")
    if seconds * rate * channels > MAX_VALUES:
        raise ValueError(
            f"{channels} channels of {rate} samples a second exceed {MAX_VALUES} values "
            f"in {seconds:g} seconds"
        )


def _read_with_sndfile(descriptor: int, seconds: float) -> _Reading:
    """The sound in an open file.

    Raises:
        LibsndfileError: not a format of libsndfile, or damaged.
    """
    with soundfile.SoundFile(descriptor, closefd=False) as file:
        _check_shape(file.samplerate, file.channels, seconds)
        wanted = math.ceil(seconds * file.samplerate)
        samples = file.read(wanted, dtype="float32", always_2d=True).T
        return _Reading(AudioClip(samples, file.samplerate), _promised_by_sndfile(file))


def _promised_by_sndfile(file: soundfile.SoundFile) -> float:
    """Samples; where a file ends early, libsndfile counts what is there."""
    cut = _CUT.search(file.extra_info)
    if cut is None:
        return float(file.frames) if file.frames < _UNKNOWN_FRAMES else 0.0
    promised, there = int(cut[1]), int(cut[2])
    return file.frames * promised / max(there, 1) if promised < _ENDLESS else 0.0


def _read_with_ffmpeg(path: Path, seconds: float) -> _Reading:
    with closing(open_container(path, AUDIO_FORMATS)) as container:
        stream = _sound_track(container)
        rate, blocks = 0, list[npt.NDArray[np.float32]]()
        left = math.inf
        for frame in decode_frames(container, stream):
            if not isinstance(frame, AudioFrame) or not frame.samples:
                continue
            channels = frame.layout.nb_channels
            if not blocks:
                rate = frame.sample_rate
                _check_shape(rate, channels, seconds)
                left = math.ceil(seconds * rate)
            elif (frame.sample_rate, channels) != (rate, len(blocks[0])):
                break  # what follows is another recording, or damage
            blocks.append(_values(frame)[:, : int(left)])
            left -= frame.samples
            if left <= 0:
                break
        if not blocks:
            raise ValueError("there is no sample that can be decoded")
        samples = np.concatenate(blocks, axis=1)
        return _Reading(AudioClip(samples, rate), rate * _promised_seconds(container, stream))


def _sound_track(container: InputContainer) -> AudioStream:
    """The first one that can be decoded.

    Raises:
        ValueError: there is none.
    """
    tracks = container.streams.audio
    if not tracks:
        raise ValueError("there is no sound track")
    for track in tracks:
        if track.codec_context is not None:
            return track
    raise ValueError("no decoder for its sound track, or a damaged header")


def _values(frame: AudioFrame) -> npt.NDArray[np.float32]:
    """(channels, n), integers scaled to -1..1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "u":
        values = values.astype(np.float32) / 128 - 1
    elif values.dtype.kind == "i":
        values = values / 2.0 ** (8 * values.itemsize - 1)
    return values.astype(np.float32)


def _promised_seconds(container: InputContainer, stream: AudioStream) -> float:
    """How long the header says the sound is; 0 if it does not say."""
    if container.format.name in UNMEASURED and "encoder" not in stream.metadata:
        return 0.0
    if stream.duration is not None and stream.time_base is not None:
        # FFmpeg has counted what is there of an AVI; its header's own number stands here.
        listed = stream.frames if container.format.name == "avi" else 0
        return float(max(stream.duration, listed) * stream.time_base)
    # A container's duration is that of its longest track.
    alone = len(container.streams) == 1
    return (container.duration or 0) / av.time_base if alone else 0.0
