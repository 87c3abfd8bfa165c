"""Hugging Face models with the weights of a folder or of the hub."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils.logging import (
    disable_progress_bar,
    get_verbosity,
    set_verbosity,
    set_verbosity_error,
)

from epalm.errors import EpalmError, MissingFileError, ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.frozen_forward import state_digest
from epalm.extract.encoders.weights.checkpoint_names import grouped, listed, prefixes
from epalm.extract.encoders.weights.hf_towers import tower_of
from epalm.extract.encoders.weights.weights_file import read_tensors
from epalm.untrusted.file_kinds import check_model_folder, describe_file
from epalm.untrusted.hub_config import loading, mismatch, refuse_kernels

PUBLISHED = {
    "clip-vit-l14": "openai/clip-vit-large-patch14",
    "timesformer-b": "facebook/timesformer-base-finetuned-k600",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
}
"""Name of an encoder -> id on the hub."""

UNUSED = ("pooler.",)
"""Prefixes of weights that no token depends on; checkpoints of classifiers lack them."""

logger = logging.getLogger(__name__)


def find_source(name: str, settings: EncoderSettings) -> str:
    """The source of the weights: a folder or an id on the hub.

    Raises:
        UsageError: `hf:` without an id, or together with --weights.
        MissingFileError: no such folder.
    """
    hub_id = name.removeprefix("hf:") if name.startswith("hf:") else ""
    if hub_id and settings.weights:
        raise UsageError(
            f"{name} already specifies the weights: leave out --weights {settings.weights}"
        )
    if settings.weights is not None and not settings.weights.is_dir():
        is_file = settings.weights.is_file()
        problem = describe_file(settings.weights) if is_file else "no such folder"
        raise MissingFileError(
            f"--weights {settings.weights}: {problem}; {name} needs a folder with config.json and "
            "model.safetensors, as written by save_pretrained"
        )
    if settings.weights is not None:
        check_model_folder(settings.weights, label=f"--weights {settings.weights}")
    elif Path(hub_id).is_dir() and hub_id:
        check_model_folder(Path(hub_id), label=name)
    source = str(settings.weights or PUBLISHED.get(name, hub_id))
    if not source:
        raise UsageError("hf: needs an id on the hub or a folder, e.g. hf:facebook/dinov2-base")
    return source


def read_config(source: str) -> PreTrainedConfig:
    """Read config.json of a folder or of a model on the hub.

    Raises:
        ModelError: it cannot be read, or requests code.
    """
    with loading(partial(_unreachable, source)):
        refuse_kernels(PreTrainedConfig.get_config_dict(source)[0], source)
        config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    return config


def load_model(source: str, config: PreTrainedConfig, device: str) -> tuple[PreTrainedModel, str]:
    """Load the model in float32, and compute the digest of the weights that tokens depend on.

    Weights that the model has no place for, such as classifiers, are listed in the log.

    Raises:
        ModelError: the weights cannot be loaded, some are missing, or blocks are left over.
    """
    tower = tower_of(config)
    logger.info("loading %s", source)
    model, info = _from_pretrained(tower.family, source, source)
    if _required(info) and Path(source).is_dir():
        model, info = _without_prefix(type(model), source, config) or (model, info)
    if wrong_shapes := mismatch(info):
        raise ModelError(
            f"the weights of {source} do not match its config.json: {wrong_shapes}: download the "
            "files again, or correct config.json"
        )
    if required := _required(info):
        raise ModelError(f"{source} lacks weights of its {config.model_type}: {listed(required)}")
    unused = sorted(info["unexpected_keys"])
    if surplus := [key for key in unused if is_further_block(key, model)]:
        raise ModelError(
            f"{source} has weights of more blocks than its config.json: {listed(surplus)}: correct "
            "config.json"
        )
    if unused:
        logger.info("not used of %s: %s", source, grouped(unused))
    encoder: Any = getattr(model, tower.part) if tower.part else model
    digest = state_digest(encoder, without=info["missing_keys"])
    return encoder.to(device), digest


def _from_pretrained(
    family: Any,  # noqa: ANN401 - a class of theirs
    source: str,
    path: str | None,
    **more: Any,  # noqa: ANN401 - arguments of theirs
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model with the weights of `path`, or of `state_dict` in `more`, and its loading info."""
    disable_progress_bar()  # it would ignore --quiet
    verbosity = get_verbosity()
    set_verbosity_error()  # it would list the weights of the classifier, which are left out
    try:
        with loading(partial(_unreachable, source)):
            model, info = family.from_pretrained(
                path,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # `load_model` checks it, with an error in one line
                **more,
            )
    finally:
        set_verbosity(verbosity)
    return model, info


def _required(info: Mapping[str, Any]) -> list[str]:
    """Weights that are missing and that tokens depend on."""
    return sorted(key for key in info["missing_keys"] if not key.startswith(UNUSED))


def _without_prefix(
    family: type[PreTrainedModel], source: str, config: PreTrainedConfig
) -> tuple[PreTrainedModel, dict[str, Any]] | None:
    """Load a folder whose weights have a prefix that transformers does not expect.

    Returns:
        The model and its loading info; None if no known prefix gives all of its weights.
    """
    try:
        tensors = read_tensors(Path(source))
    except EpalmError:  # weights in several files
        return None
    for prefix in filter(None, prefixes(tensors, ())):
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        model, info = _from_pretrained(family, source, None, config=config, state_dict=state)
        if not _required(info):
            logger.info("weights: %s* of %s", prefix, source)
            return model, info
    return None


def is_further_block(name: str, model: PreTrainedModel) -> bool:
    """Whether a weight is that of a block after the last one of the model."""
    parts = name.removeprefix(f"{model.base_model_prefix}.").split(".")
    for length, part in enumerate(parts):
        if part.isdecimal():
            try:
                blocks = model.get_submodule(".".join(parts[:length]))
            except AttributeError:
                return False
            return isinstance(blocks, nn.ModuleList) and int(part) >= len(blocks)
    return False


def _unreachable(source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"{source} is neither a folder written by save_pretrained, nor in the local Hugging Face "
        "cache, nor available from the hub: give a local folder with --weights, or run once with "
        f"network access and HF_HUB_OFFLINE unset ({reason})"
    )
