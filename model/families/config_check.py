"""Checks of a language model's config.json, before any weights are read."""

from collections.abc import Mapping

from transformers import PretrainedConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from epalm.errors import ModelError
from epalm.model.families.decoder_parts import layer_kinds, supported
from epalm.number_ranges import Range
from epalm.untrusted.quoted_values import shown

COUNTS: Mapping[str, Range] = {
    "vocab_size": Range(1, 100_000_000),
    "hidden_size": Range(1, 1_000_000),
    "num_hidden_layers": Range(1, 10_000),
    "max_position_embeddings": Range(1, 100_000_000),
    "num_attention_heads": Range(1, 100_000),
}
"""Ranges of the integers that every model has."""

OPTIONAL_COUNTS: Mapping[str, Range] = {
    "num_key_value_heads": Range(1, 100_000),
    "head_dim": Range(1, 1_000_000),
    "intermediate_size": Range(1, 10_000_000),
    "ffn_dim": Range(1, 10_000_000),
    "word_embed_proj_dim": Range(1, 1_000_000),
    "sliding_window": Range(1, 100_000_000),
}
"""Ranges of integers that some families have."""

NUMBERS: Mapping[str, Range] = {
    **dict.fromkeys(
        (
            *("dropout", "attention_dropout", "layerdrop", "resid_pdrop", "embd_pdrop"),
            *("attn_pdrop", "hidden_dropout", "residual_dropout", "embedding_dropout"),
        ),
        Range(0, 1, open_high=True),
    ),
    "init_std": Range(0, 1000),
    "initializer_range": Range(0, 1000),
    **dict.fromkeys(
        ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"),
        Range(0, 1),
    ),
    "query_pre_attn_scalar": Range(0, 1e6, open_low=True),
    "attn_logit_softcapping": Range(0, 1e6, open_low=True),
    "final_logit_softcapping": Range(0, 1e6, open_low=True),
}
"""Ranges of other numbers that some families have."""

ROTATION_NUMBERS: Mapping[str, Range] = {
    "rope_theta": Range(0, 1e12, open_low=True),
    "partial_rotary_factor": Range(0, 1, open_low=True),
    "factor": Range(0, 1e6, open_low=True),
}
"""Ranges of numbers in the `rope_parameters` of config.json."""

ROTATION_TYPES = ("default", *ROPE_INIT_FUNCTIONS)
"""Values of `rope_type`."""

ACTIVATIONS = ("activation_function", "hidden_act", "hidden_activation")
"""Keys of the activation function."""

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""Keys of the number of experts in mixtures."""

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("bloom", "mpt"), "biases its attention scores by distance (ALiBi)"),
    "falcon": "has attention code of its own, which no other attention function can replace",
    "gpt_neo": "has attention code of its own, which no other attention function can replace",
    **dict.fromkeys(("gptj", "codegen"), "rotates within its attention, by a table of positions"),
    **dict.fromkeys(
        (
            *("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm", "recurrent_gemma", "jamba"),
            *("zamba", "zamba2", "bamba", "nemotron_h", "falcon_h1"),
        ),
        "has recurrent layers, whose state runs through the whole text",
    ),
}
"""`model_type` of config.json -> reason why the loop cannot run the model."""


def check_config(config: PretrainedConfig, name: str) -> None:
    """Reject models that the loop cannot run, invalid values, and quantized weights.

    Args:
        config: configuration of the language model.
        name: name of the language model, for the message.

    Raises:
        ModelError: names what is not supported, or the key of config.json, its value and the valid
            values.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"config.json of {name} has a quantization_config: expected weights in floating point, "
            "which --precision int8 or int4 quantizes while loading; use the original model"
        )
    if reason := _unsupported(config):
        raise ModelError(f"{name} is a {config.model_type!r} model, which {reason}: {supported()}")
    _check_numbers(config, name)
    _check_shape(config, name)
    _check_rotations(config, name)
    layer_kinds(config)


def _unsupported(config: PretrainedConfig) -> str:
    """Why the loop cannot run a model, or an empty text."""
    if config.model_type in REFUSED:
        return REFUSED[config.model_type]
    if any((getattr(config, key, None) or 0) > 1 for key in EXPERTS):
        return "is a mixture of experts; expected a dense model"
    if getattr(config, "kv_lora_rank", None):
        return "stores keys and values in compressed form"
    if hasattr(config, "vision_config") or hasattr(config, "audio_config"):
        return "has an encoder of its own; expected a model of text only"
    return _not_a_decoder(config)


def _not_a_decoder(config: PretrainedConfig) -> str:
    """What a model is that does not predict each token from those before; "" for one that does.

    transformers has a causal variant of some encoders, such as BERT; their published weights were
    not trained for it.
    """
    kind = config.model_type
    if config.is_encoder_decoder:
        found = "an encoder-decoder"
    elif kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        found = "an encoder, which predicts masked tokens from both sides"
    elif kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        found = "no language model of transformers"
    else:
        return ""
    saved = f" ({config.architectures[0]})" if config.architectures else ""
    return f"is {found}{saved}; expected a decoder-only causal language model"


def _check_numbers(config: PretrainedConfig, name: str) -> None:
    for key, interval in {**COUNTS, **OPTIONAL_COUNTS, **NUMBERS}.items():
        value = getattr(config, key, None)
        if value is None and key not in COUNTS:
            continue
        if isinstance(value, int | float if key in NUMBERS else int):
            _check(name, key, value, interval.violated(value))
        else:
            _check(name, key, value, "a number")


def _check_rotations(config: PretrainedConfig, name: str) -> None:
    """Check rotary embeddings; families with a rotation for each kind of layer list them by it."""
    given = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in given.values() if isinstance(value, dict)]
    for rotation in nested if "rope_type" not in given and nested else [given]:
        kind = rotation.get("rope_type", "default")
        known = "" if kind in ROTATION_TYPES else f"one of {', '.join(ROTATION_TYPES)}"
        _check(name, "rope_type", kind, known)
        for key, interval in ROTATION_NUMBERS.items():
            value = rotation.get(key)
            if isinstance(value, int | float):
                _check(name, key, value, interval.violated(value))
            else:
                _check(name, key, value, "" if value is None else "a number")


def _check_shape(config: PretrainedConfig, name: str) -> None:
    heads = config.num_attention_heads
    divisible = getattr(config, "head_dim", None) or config.hidden_size % heads == 0
    width = "" if divisible else f"a multiple of the {heads} heads"
    _check(name, "hidden_size", config.hidden_size, width)
    groups = getattr(config, "num_key_value_heads", None) or heads
    divisor = "" if heads % groups == 0 else f"a divisor of the {heads} heads"
    _check(name, "num_key_value_heads", groups, divisor)
    for key in ACTIVATIONS:
        value = getattr(config, key, None)
        known = value is None or value in ACT2FN
        _check(name, key, value, "" if known else "e.g. relu")
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
