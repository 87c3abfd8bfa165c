"""Tiny random language models of every promised family, built once per process.

The table has at least one configuration for everything that distinguishes a family: groups of
heads, biases, windows, bounds of scores and logits, rotations, layers without any.
"""

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from epalm.model.engine.language_model import freeze

LAYERS, WIDTH, VOCABULARY, WINDOW = 6, 32, 61, 5

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

LLAMA: dict[str, Any] = {**SHAPE, "intermediate_size": 48, "num_key_value_heads": 2}

ALTERNATING = ["sliding_attention", "full_attention"] * (LAYERS // 2)

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 2.1, 2.2, 2.3],
    "original_max_position_embeddings": 32,
}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}

OPT: dict[str, Any] = {**SHAPE, "ffn_dim": 48, "word_embed_proj_dim": WIDTH, "dropout": 0.0}

GPT2: dict[str, Any] = {
    key: value for key, value in SHAPE.items() if key not in ("hidden_size", "num_hidden_layers")
}

CONFIGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "opt": ("opt", OPT),
    "opt-post-norm-projected": (
        "opt",
        OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 16},
    ),
    "llama-grouped": ("llama", LLAMA),
    "llama-untied-biased-head-12": (
        "llama",
        LLAMA
        | {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True, "head_dim": 12},
    ),
    "llama3-rope": ("llama", LLAMA | {"rope_parameters": LLAMA3_ROPE}),
    "llama-yarn": ("llama", LLAMA | {"rope_parameters": YARN}),
    "qwen2": ("qwen2", LLAMA),
    "qwen2-window": (
        "qwen2",
        LLAMA | {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 3},
    ),
    "qwen3": ("qwen3", LLAMA | {"head_dim": 12}),
    "gemma": ("gemma", LLAMA | {"head_dim": 8, "num_key_value_heads": 1}),
    "gemma2": (
        "gemma2",
        LLAMA
        | {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
    ),
    "gemma3": (
        "gemma3_text",
        LLAMA
        | {
            "head_dim": 8,
            "sliding_window": WINDOW,
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        },
    ),
    "mistral-window": ("mistral", LLAMA | {"sliding_window": WINDOW}),
    "smollm3": ("smollm3", LLAMA),
    "olmo2": ("olmo2", LLAMA),
    "olmo3": ("olmo3", LLAMA | {"sliding_window": WINDOW, "layer_types": ALTERNATING}),
    "phi": ("phi", LLAMA | {"qk_layernorm": True}),
    "phi3": ("phi3", LLAMA | {"sliding_window": WINDOW}),
    "phi3-longrope": (
        "phi3",
        LLAMA | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 32},
    ),
    "starcoder2": ("starcoder2", LLAMA | {"sliding_window": WINDOW}),
    "gpt-neox-parallel": ("gpt_neox", SHAPE | {"intermediate_size": 48}),
    "gpt-neox-sequential": (
        "gpt_neox",
        SHAPE | {"intermediate_size": 48, "use_parallel_residual": False},
    ),
    "gpt2": (
        "gpt2",
        GPT2
        | {
            "n_embd": WIDTH,
            "n_layer": LAYERS,
            "n_positions": 64,
            "scale_attn_by_inverse_layer_idx": True,
        },
    ),
}
"""Name -> `model_type` and the values of config.json."""

NAMES = tuple(CONFIGS)

SMALL_DIFFERENCE = 5e-5
"""Allowed difference of logits of up to 30 that are computed in another order in float32."""


def config_of(name: str) -> PretrainedConfig:
    """The configuration of a tiny model."""
    model_type, values = CONFIGS[name]
    return AutoConfig.for_model(model_type, **copy.deepcopy(values))


def randomize(model: PreTrainedModel) -> PreTrainedModel:
    """Weights large enough that every part affects the logits, also those of norms and biases."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() > 1:
                weight.copy_(0.25 * noise)
            else:
                weight.add_(0.2 * noise)
    return model


@cache
def stock_model(name: str) -> PreTrainedModel:
    """Transformers' own model with its eager attention; not to be changed."""
    model = AutoModelForCausalLM.from_config(config_of(name), attn_implementation="eager")
    return randomize(model).eval()


@cache
def shared_model(name: str) -> PreTrainedModel:
    """The same weights, frozen for the loop; hooks must not be added."""
    return own_model(name)


def own_model(name: str) -> PreTrainedModel:
    """A copy of the shared model that may be changed."""
    return freeze(copy.deepcopy(stock_model(name)))
