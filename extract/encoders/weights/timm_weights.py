"""timm models with their published weights, or with those of a local file."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import timm
from torch import nn

from epalm.errors import ModelError
from epalm.extract.encoders.weights.weights_file import read_state
from epalm.untrusted.hub_config import loading

_HEADS = ("head.", "head_dist.")
"""Prefixes of the classifier's weights, which extraction does not use."""

logger = logging.getLogger(__name__)


def published_model(architecture: str) -> nn.Module:
    """Load the model with its published weights, from the hub or its local cache."""
    logger.info("loading the weights of timm %s from the Hugging Face hub", architecture)
    with loading(partial(_unreachable, architecture)):
        model: nn.Module = timm.create_model(architecture, pretrained=True, num_classes=0)
    return model


def _unreachable(architecture: str, error: Exception) -> str:
    return (
        f"the weights of timm {architecture} are neither in the local Hugging Face cache nor "
        "available from the hub: give a local file with --weights, or run once with network access "
        f"and HF_HUB_OFFLINE unset ({error})"
    )


def local_model(architecture: str, weights: Path) -> nn.Module:
    """Load the model with the weights of a safetensors or torch file, without its classifier."""
    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0)
    return load_weights(model, weights, name=f"timm {architecture}")


def load_weights(model: nn.Module, weights: Path, *, name: str) -> nn.Module:
    """Load a safetensors or torch file into a model without a classifier.

    Args:
        model: model without a classifier, changed in place.
        weights: the file, or a folder of a saved model; the classifier's weights are left out.
        name: name of the model, for messages.

    Returns:
        The model.

    Raises:
        MissingFileError: no such file.
        ModelError: the file does not contain weights, or those of another model.
    """
    state = read_state(weights)
    state = {key: tensor for key, tensor in state.items() if not key.startswith(_HEADS)}
    try:
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{weights} does not fit {name}: {reason}") from error
    if result.missing_keys or result.unexpected_keys:
        raise ModelError(
            f"{weights} does not fit {name}: missing "
            f"{_listed(result.missing_keys)}; unexpected {_listed(result.unexpected_keys)}"
        )
    return model


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "nothing") + more
