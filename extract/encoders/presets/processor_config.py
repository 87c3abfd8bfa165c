"""The preprocessing that a Hugging Face folder specifies for its model."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from transformers import FeatureExtractionMixin, ImageProcessingMixin
from transformers.video_processing_utils import BaseVideoProcessor

from epalm.errors import ModelError
from epalm.untrusted.hub_config import loading
from epalm.untrusted.quoted_values import shown

FILE = "preprocessor_config.json"

FILES = (FILE, "processor_config.json", "video_preprocessor_config.json")
"""Names of files with settings of the preprocessing; the second contains those of all inputs."""

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Number of a PIL filter in preprocessor_config.json -> its name."""

MAX_SIDE = 10_000
"""Largest side of an image after resizing or cropping, pixels."""

MAX_CONSTANT = 1e6
"""Largest absolute value of a normalization constant; published ones are below 10."""

_REASON_CHARACTERS = 200


class _Sides(NamedTuple):
    """Sides in pixels given by `size` or `crop_size`; None for sides that are not given."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None


def native_images(source: str) -> dict[str, Any]:
    """Read a folder's preprocessor_config.json as a data config of timm.

    If the margin around the center is odd, Hugging Face crops one pixel further left or up.

    Raises:
        ModelError: the file is missing, a value is invalid, or the images would not be square.
    """
    config = preprocessor(source)
    size, crop_size = (_sides(config, key, source) for key in ("size", "crop_size"))
    final = crop_size if config.get("do_center_crop") and any(crop_size) else size
    shorter, side = size.shortest_edge, final.height
    resized = shorter or size.height
    if not side or not resized or final.width != side or (not shorter and size.width != resized):
        values = " and ".join(shown(config.get(key)) for key in ("size", "crop_size"))
        raise ModelError(
            f"{source}: sizes {values} of {file_label(source)} are not square: use "
            "--preprocessing paper"
        )
    resample = config.get("resample", 2)
    if not isinstance(resample, int):
        raise _wrong(source, "resample", resample, "the number of a filter, e.g. 3")
    return {
        "input_size": (3, side, side),
        "crop_pct": side / resized,
        "crop_mode": "center" if shorter else "squash",
        "interpolation": FILTERS.get(resample, "another filter"),
        "mean": _three(config, "image_mean", source),
        "std": _three(config, "image_std", source),
    }


def native_audio(source: str) -> tuple[float, float]:
    """Mean and standard deviation of filter bank values in a folder's own preprocessing.

    Raises:
        ModelError: preprocessor_config.json is missing, or a value is invalid.
    """
    config = audio_preprocessor(source)
    mean, std = (_constant(config.get(key), key, source) for key in ("mean", "std"))
    return mean, std


def preprocessor(source: str) -> dict[str, Any]:
    """Read the settings of images or frames of a folder or of a model on the hub.

    Raises:
        ModelError: there are none, they cannot be read, or are not a JSON object.
    """
    with loading(partial(_unreadable, source)):
        try:
            config: Any = ImageProcessingMixin.get_image_processor_dict(source)[0]
        except OSError:  # models of videos may have a file of another name
            config = BaseVideoProcessor.get_video_processor_dict(source)[0]
    return _checked(config, source)


def audio_preprocessor(source: str) -> dict[str, Any]:
    """Read the settings of a feature extractor of a folder or of a model on the hub.

    Raises:
        ModelError: there are none, they cannot be read, or are not a JSON object.
    """
    with loading(partial(_unreadable, source)):
        config: Any = FeatureExtractionMixin.get_feature_extractor_dict(source)[0]
    return _checked(config, source)


def local_file(source: str) -> str:
    """Name of the file with these settings in a folder; "" if there is none."""
    return next((name for name in FILES if Path(source, name).exists()), "")


def file_label(source: str) -> str:
    """Name of the file with these settings, for messages."""
    return local_file(source) or FILE


def _checked(config: Any, source: str) -> dict[str, Any]:  # noqa: ANN401 - JSON value
    if not isinstance(config, dict):
        raise _wrong(source, "its content", config, "a JSON object")
    return config


def _unreadable(source: str, error: Exception) -> str:
    if found := local_file(source):
        reason = " ".join(str(error).split())[:_REASON_CHARACTERS]
        return f"{source}: {found} cannot be read ({reason}): use --preprocessing paper"
    folder = Path(source).is_dir()
    place = "" if folder else " in the local Hugging Face cache or on the hub"
    return (
        f"{source} has no {FILE}{place}, which native preprocessing needs: "
        f"{'copy it there from the' if folder else 'give a local copy of the'} model that these "
        "weights are of, or use --preprocessing paper"
    )


def _sides(config: dict[str, Any], key: str, source: str) -> _Sides:
    value = config.get(key)
    if isinstance(value, dict):
        names = _Sides._fields
        return _Sides(*(_side(value.get(name), f"{key}.{name}", source) for name in names))
    side = _side(value, key, source)
    return _Sides(side, side)


def _side(value: object, key: str, source: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_SIDE:
        return value
    raise _wrong(source, key, value, f"a whole number from 1 to {MAX_SIDE:,}")


def _three(config: dict[str, Any], key: str, source: str) -> tuple[float, ...]:
    value = config.get(key)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise _wrong(source, key, value, "a list of 3 numbers")
    return tuple(_constant(number, key, source) for number in value)


def _constant(value: Any, key: str, source: str) -> float:  # noqa: ANN401 - JSON value
    positive = key.endswith("std")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and abs(value) <= MAX_CONSTANT and (value > 0 or not positive):  # false for NaN
        return cast(float, value)  # unchanged, since 0 and 0.0 give different fingerprints
    raise _wrong(source, key, value, "a number above 0" if positive else "a finite number")


def _wrong(source: str, key: str, value: object, wanted: str) -> ModelError:
    return ModelError(
        f"{source}: {key} of {file_label(source)} is {shown(value)}, expected {wanted}: "
        "correct the file, or use --preprocessing paper"
    )
