"""What a Hugging Face folder says about its model's own preprocessing."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from transformers import ImageProcessingMixin

from epalm.errors import ModelError
from epalm.untrusted.checked_toml import shown
from epalm.untrusted.hub_config import loading

FILE = "preprocessor_config.json"

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers of its filters, as preprocessor_config.json gives them."""

MOST_PIXELS = 10_000
"""Of a side after resizing or cropping."""

LARGEST = 1e6
"""Of constants of normalization, as absolute values; published ones are below 10."""

_REASON_CHARACTERS = 200


class _Sides(NamedTuple):
    """Sides in pixels that `size` or `crop_size` gives; None for those that it does not give."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None


def native_images(source: str) -> dict[str, Any]:
    """A folder's preprocessor_config.json in the terms of timm's data configs.

    Where the margin beside the center is odd, Hugging Face cuts one pixel further left or up.

    Raises:
        ModelError: there is none, a value of it cannot be used, or it makes no squares.
    """
    found = preprocessor(source)
    size, crop = (_sides(found, key, source) for key in ("size", "crop_size"))
    cut = crop if found.get("do_center_crop") and any(crop) else size
    shorter, side = size.shortest_edge, cut.height
    scaled = shorter or size.height
    if not side or not scaled or cut.width != side or (not shorter and size.width != scaled):
        values = " and ".join(shown(found.get(key)) for key in ("size", "crop_size"))
        raise ModelError(
            f"{source}: sizes {values} of {FILE} make no squares: use --preprocessing official"
        )
    resample = found.get("resample", 2)
    if not isinstance(resample, int):
        raise _wrong(source, "resample", resample, "the number of a filter, e.g. 3")
    return {
        "input_size": (3, side, side),
        "crop_pct": side / scaled,
        "crop_mode": "center" if shorter else "squash",
        "interpolation": FILTERS.get(resample, "another filter"),
        "mean": _three(found, "image_mean", source),
        "std": _three(found, "image_std", source),
    }


def native_audio(source: str) -> tuple[float, float]:
    """Mean and standard deviation of the filter bank's values, of a folder's own preprocessing.

    Raises:
        ModelError: there is no preprocessor_config.json, or a value of it cannot be used.
    """
    found = preprocessor(source)
    mean, std = (_constant(found.get(key), key, source) for key in ("mean", "std"))
    return mean, std


def preprocessor(source: str) -> dict[str, Any]:
    """The constants that a model's own preprocessing has.

    Raises:
        ModelError: its preprocessor_config.json is not to be had, or not a JSON object.
    """
    with loading(partial(_unreadable, source)):
        found: Any = ImageProcessingMixin.get_image_processor_dict(source)[0]
    if not isinstance(found, dict):
        raise _wrong(source, "its content", found, "a JSON object")
    return found


def _unreadable(source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:_REASON_CHARACTERS]
    if (Path(source) / FILE).exists():
        return f"{source}: {FILE} cannot be read ({reason}): use --preprocessing official"
    return (
        f"{source} has no {FILE}, which native preprocessing is read from: use --preprocessing "
        f"official ({reason})"
    )


def _sides(found: dict[str, Any], key: str, source: str) -> _Sides:
    value = found.get(key)
    if isinstance(value, dict):
        names = _Sides._fields
        return _Sides(*(_side(value.get(name), f"{key}.{name}", source) for name in names))
    side = _side(value, key, source)
    return _Sides(side, side)


def _side(value: object, key: str, source: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_PIXELS:
        return value
    raise _wrong(source, key, value, f"a whole number from 1 to {MOST_PIXELS:,}")


def _three(found: dict[str, Any], key: str, source: str) -> tuple[float, ...]:
    value = found.get(key)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise _wrong(source, key, value, "a list of 3 numbers")
    return tuple(_constant(one, key, source) for one in value)


def _constant(value: Any, key: str, source: str) -> float:  # noqa: ANN401 - of JSON
    positive = key.endswith("std")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and abs(value) <= LARGEST and (value > 0 or not positive):  # NaN is not
        return cast(float, value)  # as it is: 0 and 0.0 give different fingerprints
    raise _wrong(source, key, value, "a number above 0" if positive else "a finite number")


def _wrong(source: str, key: str, value: object, wanted: str) -> ModelError:
    return ModelError(
        f"{source}: {key} of {FILE} is {shown(value)}, wanted {wanted}: correct the file, or use "
        "--preprocessing official"
    )
