"""The frozen language model: Hugging Face's OPT, unchanged."""

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    OPTConfig,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.utils.logging import (
    disable_progress_bar,
    get_verbosity,
    set_verbosity,
    set_verbosity_error,
)

from epalm.errors import ModelError
from epalm.model.engine.config_check import check_config
from epalm.model.engine.packed_attention import ATTENTION, register_attention
from epalm.model.engine.quantized import QUANTIZED, move, quantize
from epalm.untrusted.file_kinds import check_model_folder, describe_file
from epalm.untrusted.hub_config import loading, mismatch, refuse_kernels

PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.bfloat16,
    "int4": torch.bfloat16,
}
"""Names of the frozen weights' precisions on the command line and in recipes, and the dtype of all
weights that are not quantised."""

HASHED_BYTES = 1 << 24
"""Of a weight that are copied at one time for its digest."""

HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]*\w")
"""organisation/name; the hub's few models without an organisation are no OPTs."""

logger = logging.getLogger(__name__)


def load_language_model(
    name: str,
    precision: str,
    device: str = "cpu",
    *,
    shard: Callable[[nn.Module], object] | None = None,
) -> OPTForCausalLM:
    """A frozen OPT in eval mode, loaded without a second copy of its weights.

    The files are mapped, not read, and each decoder layer in turn is brought to its precision and
    its device. So neither the device nor the memory of this process (the mapped files aside, whose
    pages the system takes back) ever holds more than the finished part and one layer.

    Args:
        name: hub id or local folder.
        precision: a key of `PRECISIONS`.
        device: where the weights are to lie.
        shard: called with each finished decoder layer, to leave a part of it on the device.

    Raises:
        ModelError: unknown precision, nothing found under that name, or not an OPT.
        MissingToolError: the precision needs a package that is not installed.
    """
    config = load_config(name, precision)
    logger.info("loading the language model %s, %s", name, precision)
    config.dtype = None  # "auto" is then the dtype of the files, whatever the config claims
    model = freeze(_load_complete(name, config))
    dtype, decoder = PRECISIONS[precision], model.model.decoder
    for layer in decoder.layers:
        if precision in QUANTIZED:
            quantize(layer, precision)
        move(layer, device, dtype)
        if shard is not None:
            shard(layer)
    for part in (
        *(part for part in decoder.children() if part is not decoder.layers),
        model.lm_head,
    ):
        move(part, device, dtype)
    return model


def _load_complete(name: str, config: OPTConfig) -> OPTForCausalLM:
    """The model with every weight from its files: transformers would draw missing ones at random.

    Raises:
        ModelError: the files cannot be read, or are not of the model that the configuration names.
    """
    before = get_verbosity()
    set_verbosity_error()  # its table of wrong weights is many lines long
    try:
        with loading(partial(_load_message, "language model", name)):
            loaded: Any = OPTForCausalLM.from_pretrained(
                name,
                config=config,
                dtype="auto",
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused below, in one line
            )
    finally:
        set_verbosity(before)
    model: OPTForCausalLM = loaded[0]
    found: dict[str, Any] = loaded[1]
    if wrong_shapes := mismatch(found):
        raise ModelError(
            f"the weights of {name} are not those of its config.json: {wrong_shapes}: get the "
            "files again, or correct config.json"
        )
    unused = [key for key in found["unexpected_keys"] if ".layers." in key]
    if wrong := sorted([*found["missing_keys"], *unused]):
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ModelError(
            f"the weights of {name} are not those of its config.json, which has "
            f"{config.num_hidden_layers} layers: {wrong[0]}{more} {'is' if not more else 'are'} "
            "missing or unused: get the files again, or correct config.json"
        )
    return model


def check_source(name: str, precision: str) -> None:
    """Refuse what shows without asking the hub.

    Args:
        name: hub id or local folder.
        precision: a key of `PRECISIONS`.

    Raises:
        ModelError: unknown precision, neither a folder nor a hub id, or files in the folder that
            are not what they are named.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"precision {precision!r} is unknown; known are {', '.join(PRECISIONS)}")
    if Path(name).is_dir():
        check_model_folder(Path(name), label=name)
    elif Path(name).is_file():
        raise ModelError(
            f"{name} is {describe_file(Path(name))}; wanted a folder made by save_pretrained, or a "
            "hub id such as facebook/opt-125m"
        )
    elif not HUB_ID.fullmatch(name):
        raise ModelError(
            f"there is no folder {Path(name).absolute()}, and {name!r} is no hub id: give --lm a "
            "local folder, or a hub id such as facebook/opt-125m"
        )


def load_config(name: str, precision: str) -> OPTConfig:
    """The configuration of an OPT; no weights are read.

    Raises:
        ModelError: see `check_source`; nothing found under that name, or not an OPT.
    """
    check_source(name, precision)
    disable_progress_bar()  # it would ignore --quiet
    with loading(partial(_load_message, "language model", name)):
        refuse_kernels(PretrainedConfig.get_config_dict(name)[0], name)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)  # None would ask
    if not isinstance(config, OPTConfig):
        raise ModelError(f"{name} is a {config.model_type!r} model, wanted an OPT")
    check_config(config, name)
    return config


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The language model's tokenizer.

    Raises:
        ModelError: nothing found under that name, or it lacks OPT's begin, end or pad token.
    """
    with loading(partial(_load_message, "tokenizer", name)):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise ModelError(f"the tokenizer of {name} lacks an end or pad token, wanted OPT's")
    if tokenizer("").input_ids != [tokenizer.bos_token_id]:
        raise ModelError(f"the tokenizer of {name} does not begin texts with its begin token")
    checked: PreTrainedTokenizerBase = tokenizer
    return checked


def freeze(model: OPTForCausalLM) -> OPTForCausalLM:
    """The same model without gradients, in eval mode, with our attention function."""
    register_attention()
    model.set_attn_implementation(ATTENTION)
    model.requires_grad_(requires_grad=False)
    model.train(mode=False)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether each of several processes holds a part of the weights."""
    return any(isinstance(weight, DTensor) for weight in model.parameters())


def weights_digest(module: nn.Module) -> str:
    """CRC-32C over all parameters' and buffers' names and bytes, as eight hexadecimal digits.

    Where processes hold parts of the weights, all have to call it, and all get the same.
    """
    checksum = 0
    for name, weight in sorted([*module.named_parameters(), *module.named_buffers()]):
        whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
        raw = whole.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        checksum = google_crc32c.extend(checksum, name.encode())
        for start in range(0, len(raw), HASHED_BYTES):
            checksum = google_crc32c.extend(checksum, raw[start : start + HASHED_BYTES].tobytes())
    return f"{checksum:08x}"


def _load_message(what: str, name: str, error: Exception) -> str:
    folder, hub = Path(name).absolute(), "the hub (or the local cache if offline)"
    place = "the folder" if folder.is_dir() else f"{hub}, and there is no folder {folder}"
    first_line = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return (
        f"no {what} could be loaded as {name!r} from {place}: {first_line}. "
        "Give --lm a hub id such as facebook/opt-125m, or a local folder"
    )
