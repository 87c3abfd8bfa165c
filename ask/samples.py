"""New samples as files, which the decoders of extraction read."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from epalm.errors import MissingFileError, UsageError
from epalm.tasks.types import MediaItem, Modality

Sound: TypeAlias = tuple[NDArray[Any], int]
"""Samples of a waveform, (T) or (T, channels), and their number per second."""

Media: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Sound
"""One sample: a path, the bytes of a file, an image, or a waveform with its sampling rate."""

ACCEPTED = {
    "image": "a path, the bytes of a file, a PIL image, or a uint8 array (height, width, 3)",
    "video": "a path, or the bytes of a file",
    "audio": "a path, the bytes of a file, or a waveform with its sampling rate: (array, 16000)",
}
"""Modality -> what a sample of it may be."""

MAX_RATE = 768_000
"""Largest accepted sampling rate, Hz."""


@dataclass(frozen=True)
class SampleFiles:
    """Samples that were given as bytes or arrays, written to a temporary folder.

    Attributes:
        modality: modality of the samples.
        folder: folder of the files.
    """

    modality: Modality
    folder: Path

    def item(self, media: Media) -> MediaItem:
        """The sample as a file; its key is the SHA-256 of the file.

        Raises:
            MissingFileError: there is no such file.
            UsageError: the object is no sample of this modality.
        """
        path = _existing(media) if isinstance(media, str | os.PathLike) else self._write(media)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return MediaItem.from_path(path.absolute(), digest, self.modality)

    def _write(self, media: bytes | Image.Image | NDArray[Any] | Sound) -> Path:
        path = self.folder / f"sample-{len(list(self.folder.iterdir()))}"
        if isinstance(media, bytes | bytearray | memoryview):
            path.write_bytes(media)
        elif self.modality == "image" and (image := _image(media)):
            image.save(path, format="PNG", compress_level=1)
        elif self.modality == "audio" and (sound := _sound(media)):
            _write_sound(path, *sound)
        else:
            raise UsageError(
                f"found {_type_in_words(media)} as {self.modality}, expected "
                f"{ACCEPTED[self.modality]}"
            )
        return path


def _existing(media: str | os.PathLike[str]) -> Path:
    path = Path(media)
    if path.is_file():
        return path
    name = os.fspath(media)
    reason = "is a URL, which is not opened: download the file" if "://" in name else "no such file"
    raise MissingFileError(f"{name}: {reason}")


def _type_in_words(media: object) -> str:
    shape = f" {media.shape} of {media.dtype}" if isinstance(media, np.ndarray) else ""
    return f"{type(media).__name__}{shape}"


def _image(media: object) -> Image.Image | None:
    """A PIL image, or an array of one; None for anything else."""
    if isinstance(media, Image.Image):
        return media
    if not isinstance(media, np.ndarray) or media.dtype != np.uint8:
        return None
    shaped = media.ndim == 3 and media.shape[2] == 3 and media.size
    return Image.fromarray(media) if shaped else None


def _sound(media: object) -> Sound | None:
    """A waveform and its sampling rate; None for anything else."""
    if not isinstance(media, tuple) or len(media) != 2:
        return None
    wave, rate = media
    shaped = isinstance(wave, np.ndarray) and wave.ndim in (1, 2) and wave.size > 0
    if not shaped or not isinstance(rate, int | np.integer) or not 0 < rate <= MAX_RATE:
        return None
    return wave, int(rate)


def _write_sound(path: Path, wave: NDArray[Any], rate: int) -> None:
    import soundfile

    exact = "PCM_16" if wave.dtype == np.int16 else "FLOAT"
    soundfile.write(path, wave, rate, format="WAV", subtype=exact)


def sample_folder() -> "TemporaryDirectory[str]":
    """A temporary folder for `SampleFiles`, deleted when the `with` block ends."""
    return TemporaryDirectory(prefix="epalm-samples-")


def paired(
    media: Media | list[Media], question: str | list[str], *, captions: bool = False
) -> tuple[list[Media], list[str]]:
    """Samples and questions of one length; a single sample or question goes with all others.

    Args:
        media: one sample, or a list.
        question: one question, or a list.
        captions: whether questions must be empty rather than have a text.

    Raises:
        UsageError: the lists differ in length, or a question has no text, or one for a caption.
    """
    samples = media if isinstance(media, list) else [media]
    questions = question if isinstance(question, list) else [question] * len(samples)
    if len(samples) == 1:
        samples = samples * len(questions)
    if len(samples) != len(questions):
        raise UsageError(
            f"found {len(samples)} samples and {len(questions)} questions, expected one "
            "question for each sample"
        )
    for text in questions:
        if captions and text != "":
            raise UsageError(f'found the question {text!r}, but the run writes captions: give ""')
        if not captions and (not isinstance(text, str) or not text.strip()):
            raise UsageError(f"found the question {text!r}, expected a text")
    return samples, questions
