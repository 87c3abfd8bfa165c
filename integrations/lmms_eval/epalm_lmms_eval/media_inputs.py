"""What lmms-eval's `doc_to_visual` gives, as a sample of a run."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Sample = str | Image.Image | tuple[NDArray[Any], int]
"""A path, an image, or a waveform with its sampling rate."""


def sample_of(visuals: object, *, modality: str, task: str) -> Sample:
    """The one sample of a request.

    Args:
        visuals: what `doc_to_visual` returns: a list with a PIL image, with the path of a file, or
            with an audio clip of the library datasets, decoded or as a dictionary.
        modality: what the run reads: "image", "video" or "audio".
        task: name of the task, for messages.

    Raises:
        ValueError: there is not exactly one sample, or it is of another kind.
    """
    if not isinstance(visuals, list | tuple) or len(visuals) != 1:
        count = len(visuals) if isinstance(visuals, list | tuple) else 0
        raise ValueError(
            f"task {task} gives {count} samples for a question, and a run of epalm reads exactly "
            "one: leave the task out"
        )
    sample = visuals[0]
    if isinstance(sample, str | os.PathLike):
        return os.fspath(sample)
    if modality == "image" and isinstance(sample, Image.Image):
        return sample
    if modality == "audio" and (sound := _sound(sample)):
        return sound
    raise ValueError(
        f"task {task} gives a {type(sample).__name__}, and the run reads {modality} samples: "
        "choose a task of that modality"
    )


def _sound(sample: Any) -> tuple[NDArray[Any], int] | None:  # noqa: ANN401 - an object of another library
    """Waveform (T) or (T, channels) and sampling rate of what the library datasets decodes."""
    if isinstance(sample, Mapping) and {"array", "sampling_rate"} <= sample.keys():
        return np.asarray(sample["array"]), int(sample["sampling_rate"])
    if hasattr(sample, "get_all_samples"):  # torchcodec's AudioDecoder
        decoded = sample.get_all_samples()
        return decoded.data.numpy().T, int(decoded.sample_rate)
    return None
