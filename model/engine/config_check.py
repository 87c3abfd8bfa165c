"""What the config.json of a language model may say: numbers that an OPT can have."""

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
"""Whole numbers; the largest OPT has 50,272 words, 96 layers and a width of 12,288."""

NUMBERS: Mapping[str, Range] = {
    "dropout": Range(0, 1, open_high=True),
    "attention_dropout": Range(0, 1, open_high=True),
    "layerdrop": Range(0, 1, open_high=True),
    "init_std": Range(0, 1000),
}
"""Other numbers."""


def check_config(config: OPTConfig, name: str) -> None:
    """Refuse what no OPT has, and weights that somebody else quantized.

    Args:
        config: of the language model.
        name: of the language model, for the message.

    Raises:
        ModelError: names the key of config.json, what it is and what was wanted.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"config.json of {name} has a quantization_config: wanted weights in floating point, "
            "which --precision int8 or int4 quantizes as they are loaded; name the original model"
        )
    for key, interval in {**COUNTS, **NUMBERS}.items():
        value = getattr(config, key)
        number = isinstance(value, int if key in COUNTS else int | float)
        wanted = interval.violated(value) if number else "a number"
        _refuse(name, key, value, wanted)
    heads = config.num_attention_heads
    divided = "" if config.hidden_size % heads == 0 else f"a multiple of the {heads} heads"
    _refuse(name, "hidden_size", config.hidden_size, divided)
    known = config.activation_function in ACT2FN
    _refuse(name, "activation_function", config.activation_function, "" if known else "e.g. relu")
    pad = config.pad_token_id
    inside = pad is None or 0 <= pad < config.vocab_size
    _refuse(name, "pad_token_id", pad, "" if inside else f"a token below {config.vocab_size:,}")


def _refuse(name: str, key: str, value: object, wanted: str) -> None:
    if wanted:
        raise ModelError(
            f"config.json of {name} has {key} {shown(value)}, wanted {wanted}: get the file again, "
            "or correct it"
        )
