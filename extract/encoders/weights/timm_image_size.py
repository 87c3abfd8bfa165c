"""The side of the images that a timm model is built for, other than its own."""

import logging
from typing import Any

import torch
from timm.data.config import resolve_model_data_config
from torch import nn

from epalm.errors import UsageError
from epalm.extract.encoders.presets.image_size import check_multiple
from epalm.extract.encoders.weights.timm_weights import untrained_model

logger = logging.getLogger(__name__)


def size_arguments(name: str, architecture: str, side: int | None) -> dict[str, int]:
    """Arguments with which timm builds a model for images of a size, before its weights are loaded.

    Args:
        name: name on the command line.
        architecture: name of the architecture.
        side: side of the images, pixels; None for the model's own.

    Returns:
        `img_size`, for which timm resamples position embeddings; empty for the model's own size,
        and for convolutional models, which take any.

    Raises:
        UsageError: the model does not take images of this size.
    """
    if side is None:
        return {}
    model = untrained_model(architecture)
    own: int = resolve_model_data_config(model)["input_size"][-1]
    if side == own:
        return {}
    check_multiple(name, side, _patch_size(model))
    arguments = {} if _takes_any(model) else {"img_size": side}
    problem = _problem(architecture, side, arguments)
    if problem and not _problem(architecture, own, {}):
        possible = [size for size in (own // 2, own * 3 // 2, own * 2) if size != side]
        sizes = [size for size in possible if not _problem(architecture, size, {"img_size": size})]
        also = f" or, for example, {' or '.join(map(str, sizes))}" if sizes else ""
        raise UsageError(
            f"--image-size {side}: {name} takes images of {own}{also} pixels ({problem})"
        )
    logger.info("%s: images of %d pixels in place of %d", name, side, own)
    return arguments


def _takes_any(model: nn.Module) -> bool:
    """Whether a model is convolutional: it is run on images of other sizes as it is."""
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    return not config.get("fixed_input_size", False) and not hasattr(model, "patch_embed")


def _problem(architecture: str, side: int, arguments: dict[str, int]) -> str:
    """Why a model does not encode images of a size; "" if it does. No weights are needed."""
    try:
        model = untrained_model(architecture, **arguments).eval()
        with torch.inference_mode():
            model.forward_features(torch.zeros(1, 3, side, side, device="meta"))  # type: ignore[operator]
    except TypeError:
        return "its size is fixed"
    except (AssertionError, ValueError, RuntimeError, IndexError, ArithmeticError) as error:
        return " ".join(str(error).split())[:150] or type(error).__name__
    return ""


def _patch_size(model: nn.Module) -> int:
    patches: Any = getattr(model, "patch_embed", None) or getattr(model, "embeds", None)
    size = getattr(patches, "patch_size", 1)
    largest: int = max(size) if isinstance(size, list | tuple) else size
    return largest
