"""Hugging Face models with the weights of a folder or of the hub."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
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

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.frozen_forward import state_digest
from epalm.extract.encoders.weights.hf_towers import tower_of
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

    Raises:
        ModelError: the weights cannot be loaded, or some are missing.
    """
    tower = tower_of(config)
    logger.info("loading %s", source)
    disable_progress_bar()  # it would ignore --quiet
    verbosity = get_verbosity()
    set_verbosity_error()  # it would list the weights of the classifier, which are left out
    try:
        with loading(partial(_unreachable, source)):
            model, info = tower.family.from_pretrained(
                source,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # checked below, with an error in one line
            )
    finally:
        set_verbosity(verbosity)
    missing = sorted(info["missing_keys"])
    if wrong_shapes := mismatch(info):
        raise ModelError(
            f"the weights of {source} do not match its config.json: {wrong_shapes}: download the "
            "files again, or correct config.json"
        )
    if required := [key for key in missing if not key.startswith(UNUSED)]:
        names = ", ".join(required[:8])
        raise ModelError(f"{source} lacks weights of its {config.model_type}: {names}")
    encoder: Any = getattr(model, tower.part) if tower.part else model
    digest = state_digest(encoder, without=missing)
    return encoder.to(device), digest


def _unreachable(source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"{source} is neither a folder written by save_pretrained, nor in the local Hugging Face "
        "cache, nor available from the hub: give a local folder with --weights, or run once with "
        f"network access and HF_HUB_OFFLINE unset ({reason})"
    )
