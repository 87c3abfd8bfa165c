"""timm models with their published weights, or with those of a checkpoint file."""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from epalm.errors import ModelError
from epalm.extract.encoders.weights.checkpoint_names import (
    copies,
    grouped,
    is_unused,
    listed,
    prefixes,
    wrong_shapes,
)
from epalm.extract.encoders.weights.position_grid import NAME, describe_changes, is_square_grid
from epalm.extract.encoders.weights.weights_file import read_tensors
from epalm.untrusted.hub_config import loading

_PATCHES = "patch_embed.proj.weight"

_TRANSFORMERS_MARK = ".attention.attention."
"""Part of names of a ViT saved by transformers, which timm's do not have."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """The tensors of a checkpoint under one prefix, compared with a model.

    Attributes:
        prefix: what their names begin with in the checkpoint, e.g. "teacher.backbone.".
        given: tensors as they are in the checkpoint, without the prefix.
        state: the same after timm's conversion of checkpoints for this model.
        missing: names of the model's tensors that the checkpoint lacks.
        misshapen: names of tensors of another shape.
    """

    prefix: str
    given: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    missing: list[str]
    misshapen: list[str]


def untrained_model(architecture: str, **settings: Any) -> nn.Module:  # noqa: ANN401 - timm's
    """Build a model without values of its weights, to examine its structure in no time."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(
            architecture, pretrained=False, num_classes=0, **settings
        )
    return model


def published_model(architecture: str, **settings: Any) -> nn.Module:  # noqa: ANN401 - timm's
    """Load a model with its published weights, from the hub or its local cache.

    It is built with its classifier, which is then removed: for a model without one, timm accepts
    weights that lack any tensor.

    Args:
        architecture: name of the architecture, with the tag of its weights.
        settings: arguments of the architecture that differ from its own, e.g. `img_size`.

    Raises:
        ModelError: the weights cannot be found, or are not all of this model.
    """
    logger.info("loading the weights of timm %s from the Hugging Face hub", architecture)
    with loading(partial(_unreachable, architecture)):
        model: Any = timm.create_model(
            architecture, pretrained=True, pretrained_strict=True, **settings
        )
        model.reset_classifier(0)
    published: nn.Module = model
    return published


def _unreachable(architecture: str, error: Exception) -> str:
    if "size mismatch" in str(error):
        reason = " ".join(str(error).split())[:200]
        return f"the weights of timm {architecture} are for its own image size alone ({reason})"
    if "key(s) in state_dict" in str(error):
        return _other_tensors(architecture, error)
    return (
        f"the weights of timm {architecture} are neither in the local Hugging Face cache nor "
        "available from the hub: give a local file with --weights, or run once with network access "
        f"and HF_HUB_OFFLINE unset ({error})"
    )


def _other_tensors(architecture: str, error: Exception) -> str:
    """The message about published weights that lack tensors, such as those of FCMAE."""
    reason = " ".join(str(error).split())[:300]
    tagged = timm.list_pretrained(f"{architecture.partition('.')[0]}.*")
    others = ", ".join(name for name in tagged if name != architecture) or "another architecture"
    return (
        f"the published weights of timm {architecture} are not those of a whole encoder "
        f"({reason}): choose other weights with --encoder timm:<name>, of {others}"
    )


def local_model(architecture: str, weights: Path, **settings: Any) -> nn.Module:  # noqa: ANN401
    """Load a model with the weights of a safetensors or torch file, without its classifier."""
    model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **settings)
    return load_weights(model, weights, name=f"timm {architecture}")


def load_weights(model: nn.Module, weights: Path, *, name: str) -> nn.Module:
    """Load a safetensors or torch file into a model without a classifier.

    The tensors may be nested and have prefixes (`prefixes`). Heads are left out, and position
    embeddings of another square grid are interpolated as timm does; both are logged.

    Args:
        model: model without a classifier, changed in place.
        weights: the file, or a folder of a saved model.
        name: name of the model, for messages.

    Returns:
        The model.

    Raises:
        MissingFileError: no such file.
        ModelError: the file does not contain weights, or those of another model.
    """
    tensors = read_tensors(weights)
    candidate = find_state(tensors, model)
    own = model.state_dict()
    surplus = [key for key in candidate.state if key not in own]
    others = tuple(prefix for prefix in copies(candidate.state, own) if prefix)
    unexpected = [
        key for key in surplus if not key.startswith(others) and not is_unused(key, model)
    ]
    if candidate.missing or candidate.misshapen or unexpected:
        raise ModelError(f"{weights} does not fit {name}: {_problem(candidate, unexpected, model)}")
    model.load_state_dict({key: candidate.state[key] for key in own})
    outside = [key for key in tensors if not key.startswith(candidate.prefix)]
    _report(weights, candidate, unused=[*surplus, *outside], model=model)
    return model


def find_state(tensors: Mapping[str, Tensor], model: nn.Module) -> Candidate:
    """Find the tensors in a checkpoint that fit a model best.

    Args:
        tensors: all tensors of the checkpoint.
        model: the model; it is not changed.
    """
    own = model.state_dict()
    candidates = []
    for prefix in prefixes(tensors, own):
        given = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        for state in (converted(given, model), given):
            missing = [name for name in own if name not in state]
            candidates.append(Candidate(prefix, given, state, missing, wrong_shapes(state, model)))
    return min(candidates, key=lambda one: (len(one.missing), len(one.misshapen)))


def converted(given: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Convert a checkpoint by timm's own function for this class of models.

    It knows the formats in which others published such models, and interpolates position
    embeddings. Where it does not apply, the tensors are returned unchanged.
    """
    module = sys.modules[type(model).__module__]
    convert: Callable[..., Mapping[str, Tensor]] | None = getattr(
        module, "checkpoint_filter_fn", None
    )
    if convert is None or not _may_be_resampled(given, model):
        return given
    try:
        return convert(dict(given), model)
    except Exception:  # noqa: BLE001 - names or shapes of another model: the comparison lists them
        return given


def _may_be_resampled(given: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Whether patches have the model's size, and positions are a square grid or the model's own.

    timm would resample the weights of patches of another size, and cut a grid that is not square.
    """
    own = model.state_dict()
    patches, positions = given.get(_PATCHES), given.get(NAME)
    if patches is not None and _PATCHES in own and patches.shape[2:] != own[_PATCHES].shape[2:]:
        return patches.dim() == 2  # an older format of a linear layer over the pixels of a patch
    if positions is None or NAME not in own or positions.shape == own[NAME].shape:
        return True
    return positions.dim() != 3 or is_square_grid(positions.shape[1], model)


def _problem(candidate: Candidate, unexpected: list[str], model: nn.Module) -> str:
    own = model.state_dict()
    if len(candidate.missing) == len(own):
        return _nothing_found(candidate)
    parts = []
    for label, names in (("missing", candidate.missing), ("unexpected", unexpected)):
        if names:
            parts.append(f"{label} {listed(names)}")
    if candidate.misshapen:
        first, *more = candidate.misshapen
        others = f" (and {len(more)} more)" if more else ""
        found, wanted = candidate.state[first].shape, own[first].shape
        parts.append(f"{first} has the shape {tuple(found)}, expected {tuple(wanted)}{others}")
    return (
        "; ".join(parts) + ": choose the architecture of these weights with --encoder timm:<name>"
    )


def _nothing_found(candidate: Candidate) -> str:
    names = list(candidate.given)
    if any(_TRANSFORMERS_MARK in name for name in names):
        return (
            "its names are those of a transformers model: put it with its config.json into a "
            "folder, and give --encoder hf:FOLDER"
        )
    return f"it has none of the weights of this model, but {listed(names, most=3)}"


def _report(weights: Path, candidate: Candidate, *, unused: list[str], model: nn.Module) -> None:
    where = f"{candidate.prefix}* of {weights.name}" if candidate.prefix else weights.name
    logger.info("weights: %s", where)
    for change in describe_changes(candidate.given, candidate.state, model):
        logger.info("position embeddings interpolated: %s", change)
    if unused:
        logger.info("not used of %s: %s", weights.name, grouped(unused))
