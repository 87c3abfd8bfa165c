"""Hugging Face models with the weights of a folder or of the hub."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from epalm.errors import MissingFileError, ModelError, UsageError
from epalm.extract.encoders.encoder_registry import EncoderSettings
from epalm.extract.encoders.frozen_forward import state_digest
from epalm.extract.encoders.presets.image_size import own_size
from epalm.extract.encoders.weights.checkpoint_names import listed
from epalm.extract.encoders.weights.hf_checkpoint import (
    load_with_any_prefix,
    with_positions_of_weights,
)
from epalm.extract.encoders.weights.hf_towers import tower_of
from epalm.untrusted.file_kinds import check_model_folder, describe_file
from epalm.untrusted.hub_config import loading, mismatch, refuse_kernels

PUBLISHED = {
    "clip-vit-l14": "openai/clip-vit-large-patch14",
    "timesformer-b": "facebook/timesformer-base-finetuned-k600",
    "ast": "MIT/ast-finetuned-audioset-10-10-0.4593",
}
"""Name of an encoder -> id on the hub."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder with its weights.

    Attributes:
        model: the encoder, whose configuration has the image size of its weights.
        digest: SHA-256 of the weights that tokens depend on.
        configured: side of the images that config.json specifies, pixels; None for none.
    """

    model: PreTrainedModel
    digest: str
    configured: int | None


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


def load_model(source: str, config: PreTrainedConfig, device: str) -> LoadedEncoder:
    """Load the model in float32, and compute the digest of the weights that tokens depend on.

    Names in the weights may have a prefix. Weights that no token depends on, such as classifiers,
    are listed in the log.

    Raises:
        ModelError: the weights cannot be loaded, some are missing, or some that tokens depend on
            have no place in the model, e.g. further blocks.
    """
    tower = tower_of(config)
    logger.info("loading %s", source)
    describe = partial(_unreachable, source)
    loaded = load_with_any_prefix(tower.family, source, describe)
    configured = own_size(loaded.model.config)
    loaded = with_positions_of_weights(loaded, describe)
    if wrong_shapes := mismatch(loaded.info):
        raise ModelError(
            f"the weights of {source} do not match its config.json: {wrong_shapes}: download the "
            "files again, or correct config.json"
        )
    if missing := loaded.missing():
        raise ModelError(f"{source} lacks weights of its {config.model_type}: {listed(missing)}")
    if surplus := loaded.surplus(tower.part):
        raise ModelError(
            f"{source} has weights for which its config.json has no place: {listed(surplus)}: "
            "correct config.json, e.g. the number of its blocks"
        )
    loaded.report(source)
    model: Any = loaded.model
    encoder = getattr(model, tower.part) if tower.part else model
    digest = state_digest(encoder, without=loaded.info["missing_keys"])
    return LoadedEncoder(encoder.to(device), digest, configured)


def _unreachable(source: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if Path(source).is_dir():
        return (
            f"no encoder could be loaded from the folder {source} ({reason}): get its files again, "
            "or correct config.json"
        )
    return (
        f"{source} is neither a folder written by save_pretrained, nor in the local Hugging Face "
        "cache, nor available from the hub: give a local folder with --weights, or run once with "
        f"network access and HF_HUB_OFFLINE unset ({reason})"
    )
