"""The side of the images that a Hugging Face model is run on."""

import inspect
import logging
from typing import Any

from transformers import PreTrainedModel

from epalm.errors import ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.presets.processor_config import native_images

FLAG = "interpolate_pos_encoding"
"""Argument of models that interpolate position embeddings on request, and name of the method of
those that do so by themselves."""

ANY_SIZE = (
    *("convnext", "convnextv2", "dinov3_convnext", "dinov3_vit", "regnet", "resnet"),
    *("siglip2_vision_model", "timesformer"),
)
"""`model_type` of models without position embeddings, with rotary ones that follow the grid of each
image, or that resize their own."""

FIXED = ("hiera",)
"""`model_type` of models whose order of tokens is computed for one size when they are built."""

logger = logging.getLogger(__name__)


def fit_image_size(
    name: str,
    model: PreTrainedModel,
    source: str,
    settings: EncoderSettings,
    configured: int | None = None,
) -> dict[str, Any]:
    """Set the side of the images in a model's configuration, as the settings specify it.

    Position embeddings are interpolated if their weights are for another size.

    Without --image-size, a model that resizes its position embeddings by itself takes images as its
    own preprocessing crops them: DINOv2 was made for 518 pixels and is used with 224.

    Args:
        name: name on the command line.
        model: model with its weights; its configuration is changed in place.
        source: folder or id on the hub, with the model's preprocessing.
        settings: settings of the encoder.
        configured: side in config.json, pixels, where the weights in `model` have another one.

    Returns:
        Further arguments of the model.

    Raises:
        UsageError: the model does not take images of this size.
        ModelError: the model's own preprocessing makes images of another size than it takes, or
            its weights are for another size than config.json says.
    """
    config: Any = model.config
    own = own_size(config)
    if own is None:
        if settings.image_size is not None:
            raise UsageError(f"{name} takes no square images: leave out --image-size")
        return {}
    expected = configured or own
    side = settings.image_size or _preset_size(model, expected, source, settings.preprocessing)
    if side == own:
        return {}
    on_request = _takes_flag(model)
    patch = patch_size(config)
    if config.model_type in FIXED or not (on_request or _resizes(model)):
        if side == expected:
            raise ModelError(
                f"the weights of {source} have positions for {own // patch} x {own // patch} "
                f"patches, its config.json for {side // patch} x {side // patch}, and a "
                f"{config.model_type} does not interpolate them: give --image-size {own}"
            )
        raise UsageError(
            f"--image-size {side}: {name} has positions for images of {own} pixels alone: leave "
            "out --image-size, or choose another --encoder"
        )
    check_multiple(name, side, patch)
    logger.info(
        "%s: images of %d pixels in place of %d, position embeddings from %d x %d to %d x %d",
        *(name, side, own, own // patch, own // patch, side // patch, side // patch),
    )
    set_size(config, side)
    return {FLAG: True} if on_request else {}


def check_multiple(name: str, side: int, patch: int) -> None:
    """Refuse images that cannot be cut into whole patches.

    Raises:
        UsageError: names the nearest sizes.
    """
    if side % patch:
        below, above = side // patch * patch, (side // patch + 1) * patch
        sizes = f"{below} or {above}" if below else str(above)
        raise UsageError(
            f"--image-size {side}: {name} takes multiples of its patch size {patch}: give {sizes}"
        )


def own_size(config: Any) -> int | None:  # noqa: ANN401 - each model has its own configuration
    """The side of the square images in a model's configuration, pixels; None if it has none."""
    size = getattr(config, "image_size", None) or getattr(config, "crop_size", None)
    if size is None and getattr(config, "num_patches", None):  # SigLIP2's NaFlex towers
        side: int = round(config.num_patches**0.5) * patch_size(config)
        return side
    size = size[0] if isinstance(size, list | tuple) and len(set(size)) == 1 else size
    return size if isinstance(size, int) else None


def _preset_size(model: PreTrainedModel, own: int, source: str, preprocessing: str) -> int:
    """The side of the images that a preprocessing makes for a model, pixels.

    Raises:
        ModelError: the preprocessing crops to another size, and the model is fixed to its own.
    """
    if preprocessing != "native":
        return own
    crop: int = native_images(source)["input_size"][-1]
    if crop == own or (_resizes(model) and not _takes_flag(model)):
        return crop
    raise ModelError(
        f"{source}: preprocessor_config.json crops to {crop} pixels, but the model takes {own}: "
        f"use --image-size {own} or --preprocessing paper"
    )


def _takes_flag(model: PreTrainedModel) -> bool:
    return FLAG in inspect.signature(model.forward).parameters


def _resizes(model: PreTrainedModel) -> bool:
    """Whether a model takes images of any size without an argument."""
    if model.config.model_type in ANY_SIZE:
        return True
    return any(hasattr(module, FLAG) for module in model.modules())


def set_size(config: Any, side: int) -> None:  # noqa: ANN401
    """Set the side of the images in a model's configuration, pixels."""
    size = getattr(config, "image_size", None)
    if size is None:
        config.num_patches = (side // patch_size(config)) ** 2
    else:
        config.image_size = [side, side] if isinstance(size, list | tuple) else side


def patch_size(config: Any) -> int:  # noqa: ANN401
    """The side of the patches in a model's configuration, pixels; 1 if it has none."""
    size = getattr(config, "patch_size", 1)
    largest: int = max(size) if isinstance(size, list | tuple) else size
    return largest
