"""Load the weights of a Hugging Face model under any prefix, and compare them with the model."""

import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.logging import (
    disable_progress_bar,
    get_verbosity,
    set_verbosity,
    set_verbosity_error,
)

from epalm.extract.encoders.presets.image_size import own_size, patch_size, set_size
from epalm.extract.encoders.weights.checkpoint_names import (
    WRAPPERS,
    copies,
    grouped,
    is_unused,
    prefixes,
)
from epalm.extract.encoders.weights.weights_file import WEIGHT_FILES, read_tensors
from epalm.untrusted.hub_config import Describe, loading

MISSING_ALLOWED = ("pooler.",)
"""Prefixes of weights that no token depends on; checkpoints of classifiers lack them."""

MOST_SPECIAL = 8
"""Largest number of position embeddings of class and register tokens."""

_MASK = re.compile(r"(^|\.)mask_token$")
"""Names of embeddings that are used while a model is trained to fill in patches."""

_POSITIONS = re.compile(r"(^|\.)(pos_embed|position_embeddings?)(\.weight)?$")
"""Names of tables with a row for each patch."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model with the weights of a source.

    Attributes:
        model: the model.
        info: loading info of transformers.
        weights: keyword arguments of `from_pretrained` that give the weights.
        prefix: what the names of the model's tensors begin with in the source.
        outside: names in the source that do not begin so.
    """

    model: PreTrainedModel
    info: Mapping[str, Any]
    weights: Mapping[str, Any]
    prefix: str = ""
    outside: Sequence[str] = field(default=())

    def missing(self) -> list[str]:
        """Names of absent weights that tokens depend on."""
        misshapen = {name for name, *_ in self.info["mismatched_keys"]}
        names = set(self.info["missing_keys"]) - misshapen
        return sorted(name for name in names if not name.startswith(MISSING_ALLOWED))

    def surplus(self, part: str) -> list[str]:
        """Names of weights in the modules of the encoder for which it has no place.

        With another configuration, tokens would depend on them: further blocks, register tokens,
        norms inside blocks. Heads, tables that are computed, and mask tokens are not among them.

        Args:
            part: attribute of the model that is the encoder; "" for the whole model.
        """
        encoder: nn.Module = self.model.get_submodule(part)
        inside = f"{part}." if part else ""
        modules = {
            name for name, child in encoder.named_children() if not isinstance(child, nn.Identity)
        }
        found = []
        for name in sorted(self.info["unexpected_keys"]):
            whole = name.removeprefix(f"{self.model.base_model_prefix}.")
            path = whole.removeprefix(inside)
            known = whole.startswith(inside) and path.partition(".")[0] in modules
            if known and not (is_unused(path, encoder) or _MASK.search(path)):
                found.append(name)
        return found

    def report(self, source: str) -> None:
        """Log the prefix of the weights, and what was not used of them."""
        if self.prefix:
            logger.info("weights: %s* of %s", self.prefix, source)
        if unused := [*sorted(self.info["unexpected_keys"]), *sorted(self.outside)]:
            logger.info("not used of %s: %s", source, grouped(unused))


def load_with_any_prefix(
    family: Any,  # noqa: ANN401 - a class of theirs
    source: str,
    describe: Describe,
) -> Loaded:
    """Load a model whose weights may have a prefix that transformers does not expect.

    Args:
        family: class of the model, or AutoModel.
        source: folder, or id on the hub.
        describe: formats the message if loading fails.

    Returns:
        The model with all of its weights. If no prefix gives them all, what is missing refers to
        the names as they are.

    Raises:
        ModelError: the weights cannot be loaded.
    """
    plain = _load(family, {"pretrained_model_name_or_path": source}, describe)
    if not plain.missing():
        return plain
    tensors: dict[str, Tensor] = {}
    for file in weight_files(source):
        tensors.update(read_tensors(file))
    own = plain.model.state_dict()
    likely = copies(tensors, own)
    for prefix in prefixes(tensors, own):
        if not prefix or not (prefix in likely or set(prefix[:-1].split(".")) <= set(WRAPPERS)):
            continue
        state = {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        weights = {"pretrained_model_name_or_path": None, "state_dict": state}
        config = deepcopy(plain.model.config)
        loaded = _load(type(plain.model), weights, describe, config=config)
        if not loaded.missing():
            outside = [name for name in tensors if not name.startswith(prefix)]
            return replace(loaded, prefix=prefix, outside=outside)
    return plain


def weight_files(source: str) -> list[Path]:
    """Files with the weights of a folder, or of an id in the local cache of the hub."""
    for name in WEIGHT_FILES:
        if file := _local_file(source, name):
            return [file]
        if index := _local_file(source, f"{name}.index.json"):
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            shards = (_local_file(source, Path(shard).name) for shard in sorted(names))
            return [shard for shard in shards if shard]
    return []


def _local_file(source: str, name: str) -> Path | None:
    if Path(source).is_dir():
        file = Path(source, name)
        return file if file.is_file() else None
    cached = try_to_load_from_cache(source, name)
    return Path(cached) if isinstance(cached, str) else None


def with_positions_of_weights(loaded: Loaded, describe: Describe) -> Loaded:
    """Load a model for the image size of its weights if only the position embeddings differ.

    Returns:
        The model with all of its weights, and the size of its position embeddings in its
        configuration; the argument itself where that is not possible.
    """
    side = _side_of_positions(loaded)
    if side is None:
        return loaded
    config: Any = deepcopy(loaded.model.config)
    set_size(config, side)
    resized = _load(type(loaded.model), loaded.weights, describe, config=config)
    if resized.info["mismatched_keys"]:
        return loaded
    return replace(resized, prefix=loaded.prefix, outside=loaded.outside)


def _side_of_positions(loaded: Loaded) -> int | None:
    """Side of the images for which the weights have positions, pixels.

    None if other weights have another shape too, or the positions are no square grid.
    """
    config = loaded.model.config
    own = own_size(config)
    if own is None or len(loaded.info["mismatched_keys"]) != 1:
        return None
    ((name, found, wanted),) = loaded.info["mismatched_keys"]
    if not _POSITIONS.search(name) or (*found[:-2], found[-1]) != (*wanted[:-2], wanted[-1]):
        return None
    patch = patch_size(config)
    special = wanted[-2] - (own // patch) ** 2
    patches = found[-2] - special
    if not 0 <= special <= MOST_SPECIAL or patches < 1 or math.isqrt(patches) ** 2 != patches:
        return None
    return math.isqrt(patches) * patch


def _load(
    family: Any,  # noqa: ANN401 - a class of theirs
    weights: Mapping[str, Any],
    describe: Describe,
    **more: Any,  # noqa: ANN401 - arguments of theirs
) -> Loaded:
    disable_progress_bar()  # it would ignore --quiet
    verbosity = get_verbosity()
    set_verbosity_error()  # it would list the weights of the classifier, which are left out
    try:
        with loading(describe):
            model, info = family.from_pretrained(
                **weights,
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # compared by the caller, with errors in one line
                **more,
            )
    finally:
        set_verbosity(verbosity)
    return Loaded(model, info, weights)
