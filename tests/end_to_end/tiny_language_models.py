"""Tiny language models of several families with tokenizers of several kinds, saved as folders."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.tokenizers_of_kinds import TOKENIZERS

LLAMA: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("sentencepiece_like", LLAMA),
    "qwen3": ("byte_level", LLAMA | {"tie_word_embeddings": True}),
    "gemma3_text": (
        "chat",
        LLAMA
        | {
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "query_pre_attn_scalar": 8,
        },
    ),
    "gpt2": (
        "metaspace_unigram",
        {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 96, "initializer_range": 0.2},
    ),
}
"""`model_type` -> kind of tokenizer, and settings of the configuration."""

SPARE = {"gpt2": 3}
"""`model_type` -> number of word embeddings without a token; the others have none."""


def save_tiny(folder: Path, family: str, *, weights: bool = True) -> Path:
    """A random model of a family with its tokenizer.

    Args:
        folder: folder of the files.
        family: a key of `FAMILIES`.
        weights: whether the weights are saved, too.
    """
    kind, shape = FAMILIES[family]
    tokenizer = TOKENIZERS[kind]()
    ends: int | list[int] = tokenizer.eos_token_id
    if kind == "chat":
        ends = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|end|>")]
    config = AutoConfig.for_model(
        family,
        **shape,
        vocab_size=len(tokenizer) + SPARE.get(family, 0),
        eos_token_id=ends,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    if weights:
        torch.manual_seed(3)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
