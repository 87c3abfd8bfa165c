"""Checks of the values in a language model's config.json."""

from collections.abc import Mapping

from transformers import OPTConfig
from transformers.activations import ACT2FN

from epalm.errors import ModelError
from epalm.number_ranges import Range
from epalm.untrusted.checked_toml import shown

COUNTS: Mapping[str, Range] = {
    "vocab_size": Range(1, 100_000_000),
    "hidden_size": Range(1, 1_000_000),
    "num_hidden_layers": Range(1, 10_000),
    "ffn_dim": Range(1, 10_000_000),
    "max_position_embeddings": Range(1, 100_000_000),
    "word_embed_proj_dim": Range(1, 1_000_000),
    "num_attention_heads": Range(1, 100_000),
}
"""Ranges of the integers; the largest OPT has 50,272 words, 96 layers and a width of 12,288."""

NUMBERS: Mapping[str, Range] = {
    "dropout": Range(0, 1, open_high=True),
    "attention_dropout": Range(0, 1, open_high=True),
    "layerdrop": Range(0, 1, open_high=True),
    "init_std": Range(0, 1000),
}
"""Ranges of the other numbers."""


def check_config(config: OPTConfig, name: str) -> None:
    """Reject values that no OPT has, and weights that are quantized already.

    Args:
        config: configuration of the language model.
        name: name of the language model, for the message.

    Raises:
        ModelError: names the key of config.json, its value and the valid values.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"config.json of {name} has a quantization_config: expected weights in floating point, "
            "which --precision int8 or int4 quantizes while loading; use the original model"
        )
    for key, interval in {**COUNTS, **NUMBERS}.items():
        value = getattr(config, key)
        is_number = isinstance(value, int if key in COUNTS else int | float)
        _check(name, key, value, interval.violated(value) if is_number else "a number")
    heads = config.num_attention_heads
    divisible = config.hidden_size % heads == 0
    width = "" if divisible else f"a multiple of the {heads} heads"
    _check(name, "hidden_size", config.hidden_size, width)
    known = config.activation_function in ACT2FN
    _check(name, "activation_function", config.activation_function, "" if known else "e.g. relu")
    pad = config.pad_token_id
    in_vocabulary = pad is None or 0 <= pad < config.vocab_size
    token = "" if in_vocabulary else f"a token below {config.vocab_size:,}"
    _check(name, "pad_token_id", pad, token)


def _check(name: str, key: str, value: object, valid: str) -> None:
    """Raise an error that states the valid values, unless that text is empty."""
    if valid:
        raise ModelError(
            f"config.json of {name} has {key} {shown(value)}, expected {valid}: get the file "
            "again, or correct it"
        )
