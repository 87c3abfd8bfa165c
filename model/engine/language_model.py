"""The frozen language model: a decoder of Hugging Face transformers, with its own layers."""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import google_crc32c
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.logging import (
    disable_progress_bar,
    get_verbosity,
    set_verbosity,
    set_verbosity_error,
)

from epalm.errors import ModelError
from epalm.model.engine.packed_attention import ATTENTION, register_attention
from epalm.model.engine.quantized import QUANTIZED, move_module, quantize
from epalm.model.engine.stock_check import check_against_stock
from epalm.model.families.config_check import check_config
from epalm.model.families.conv1d import use_linear_maps
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.families.family import family_of
from epalm.model.families.model_source import check_source
from epalm.untrusted.hub_config import load_message, loading, mismatch, refuse_kernels

PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.bfloat16,
    "int4": torch.bfloat16,
}
"""Precisions of the frozen weights, as named on the command line and in recipes, with the dtype of
all weights that are not quantized."""

Model = TypeVar("Model", bound=PreTrainedModel)

HASHED_BYTES = 1 << 24
"""Bytes of a weight that are copied at one time to compute its digest (16 MiB)."""

logger = logging.getLogger(__name__)


def load_language_model(
    name: str,
    precision: str,
    device: str = "cpu",
    *,
    shard: Callable[[nn.Module], object] | None = None,
) -> PreTrainedModel:
    """A frozen language model in eval mode, loaded without a second copy of its weights.

    The files are memory-mapped, and the decoder layers are converted and moved to the device one
    by one. So neither the device nor this process ever holds more than the finished part and one
    layer, apart from mapped pages, which the system can reclaim. Before that, the model is compared
    with transformers' own forward pass, see `epalm.model.engine.stock_check`.

    Args:
        name: hub id or local folder.
        precision: a key of `PRECISIONS`.
        device: device of the weights.
        shard: called with each finished decoder layer, to keep only a part of it on the device.

    Raises:
        ModelError: the precision is unknown, the name matches no model, or the model is not
            supported.
        MissingToolError: the precision needs a package that is not installed.
    """
    config = load_config(name, precision)
    logger.info("loading the language model %s, %s", name, precision)
    config.dtype = None  # "auto" is then the dtype of the files, not that of config.json
    model = freeze(_load_complete(name, config))
    check_against_stock(model, name)
    dtype, parts = PRECISIONS[precision], decoder_parts(model)
    for layer in parts.layers:
        if precision in QUANTIZED:
            quantize(layer, precision)
        move_module(layer, device, dtype)
        if shard is not None:
            shard(layer)
    for part in (*(part for part in parts.body.children() if part is not parts.layers), parts.head):
        move_module(part, device, dtype)
    return model


def _load_complete(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """The model with every weight from its files; transformers initializes missing ones randomly.

    Raises:
        ModelError: the files cannot be read, or do not match the configuration.
    """
    verbosity = get_verbosity()
    set_verbosity_error()  # transformers' table of mismatched weights is many lines long
    try:
        with loading(partial(load_message, "language model", name)):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                name,
                config=config,
                dtype="auto",
                # only OPT's weights on the hub are in PyTorch's format; transformers reads that
                # with weights_only, which runs no code either
                use_safetensors=None if config.model_type == "opt" else True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # rejected below, in one line
            )
    finally:
        set_verbosity(verbosity)
    model: PreTrainedModel = loaded[0]
    loading_info: dict[str, Any] = loaded[1]
    if wrong_shapes := mismatch(loading_info):
        raise ModelError(
            f"the weights of {name} do not match its config.json: {wrong_shapes}: get the "
            "files again, or correct config.json"
        )
    of_layer = re.compile(rf"(^|\.){family_of(config).layers}\.\d+\.(?!.*rotary_emb\.inv_freq$)")
    unused = [key for key in loading_info["unexpected_keys"] if of_layer.search(key)]
    if wrong := sorted([*loading_info["missing_keys"], *unused]):
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ModelError(
            f"the weights of {name} do not match its config.json, which has "
            f"{config.num_hidden_layers} layers: {wrong[0]}{more} {'is' if not more else 'are'} "
            "missing or unused: get the files again, or correct config.json"
        )
    return model


def load_config(name: str, precision: str) -> PretrainedConfig:
    """The configuration of a supported language model; no weights are read.

    Raises:
        ModelError: the precision is unknown, the name matches no model, the model is not supported,
            or `check_source` refuses it.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is unknown; known are {', '.join(PRECISIONS)}")
    check_source(name)
    disable_progress_bar()  # transformers' bar ignores --quiet
    with loading(partial(load_message, "language model", name)):
        refuse_kernels(PretrainedConfig.get_config_dict(name)[0], name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)  # None would prompt
    check_config(config, name)
    checked: PretrainedConfig = config
    return checked


def freeze(model: Model) -> Model:
    """The same model without gradients, in eval mode, with our attention function.

    GPT-2's transposed maps become `torch.nn.Linear`, so that they can be quantized. The model's own
    generation settings are discarded: generation would use those that a decoding leaves out, e.g. a
    repetition penalty.
    """
    register_attention()
    use_linear_maps(model)
    model.generation_config = GenerationConfig()
    model.set_attn_implementation(ATTENTION)
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether the weights are sharded over several processes."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def weights_digest(module: nn.Module) -> str:
    """CRC-32C over all parameters' and buffers' names and bytes, as eight hexadecimal digits.

    If the weights are sharded, all processes must call it, and all get the same digest.
    """
    checksum = 0
    for name, weight in sorted([*module.named_parameters(), *module.named_buffers()]):
        full = weight.full_tensor() if isinstance(weight, DTensor) else weight
        raw = full.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        checksum = google_crc32c.extend(checksum, name.encode())
        for start in range(0, len(raw), HASHED_BYTES):
            checksum = google_crc32c.extend(checksum, raw[start : start + HASHED_BYTES].tobytes())
    return f"{checksum:08x}"
