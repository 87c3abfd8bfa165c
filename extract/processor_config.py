"""What a Hugging Face folder says about its model's own preprocessing."""

from typing import Any

from transformers import ImageProcessingMixin

from epalm.errors import ModelError

FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""PIL's numbers of its filters, as preprocessor_config.json gives them."""


def native_images(source: str) -> dict[str, Any]:
    """A folder's preprocessor_config.json in the terms of timm's data configs.

    Where the margin beside the centre is odd, Hugging Face cuts one pixel further left or up.

    Raises:
        ModelError: there is none, or it makes no squares.
    """
    found = preprocessor(source)
    size, crop = found.get("size", {}), found.get("crop_size")
    sides = [size] * 2 if isinstance(size, int) else [size.get("height"), size.get("width")]
    shorter = None if isinstance(size, int) else size.get("shortest_edge")
    if found.get("do_center_crop") and crop:
        side = crop if isinstance(crop, int) else crop["height"]
    else:
        side = sides[0]
    if not side or (shorter is None and sides[0] != sides[1]):
        raise ModelError(f"{source}: sizes {size} and {crop} make no squares")
    return {
        "input_size": (3, side, side),
        "crop_pct": side / (shorter or sides[0]),
        "crop_mode": "center" if shorter else "squash",
        "interpolation": FILTERS.get(found.get("resample", 2), "another filter"),
        "mean": found["image_mean"],
        "std": found["image_std"],
    }


def preprocessor(source: str) -> dict[str, Any]:
    """The constants that a model's own preprocessing has.

    Raises:
        ModelError: its preprocessor_config.json is not to be had.
    """
    try:
        found: dict[str, Any]
        found, _ = ImageProcessingMixin.get_image_processor_dict(source)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{source} has no preprocessor_config.json, which native preprocessing is read from: "
            "use --preprocessing official"
        ) from error
    return found
