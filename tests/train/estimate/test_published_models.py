"""The table of memory in docs/how_to/gpu_too_small.md, planned again from configurations."""

import json
from pathlib import Path
from typing import Any

import pytest

from epalm.train.estimate.memory_estimate import plan_memory, shape_model
from epalm.train.estimate.step_memory import StepShape
from epalm.train.estimate.weight_memory import WeightPlacement
from tests.model.helpers import settings
from tests.repository import ROOT

PAGE = ROOT / "docs" / "how_to" / "gpu_too_small.md"

CONFIGS: dict[str, dict[str, Any]] = {
    "facebook/opt-2.7b": {
        "model_type": "opt",
        "vocab_size": 50272,
        "hidden_size": 2560,
        "ffn_dim": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "word_embed_proj_dim": 2560,
        "max_position_embeddings": 2048,
    },
    "meta-llama/Llama-3.2-1B": {
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    },
    "HuggingFaceTB/SmolLM2-1.7B": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-1.5B": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    },
    "google/gemma-2-2b": {
        "model_type": "gemma2",
        "vocab_size": 256000,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 8192,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "mistralai/Mistral-7B-v0.1": {
        "model_type": "mistral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
}
"""Shapes of the published models, as their config.json gives them."""

SHORT, LONG = StepShape(16, 16, 16 * 32, 32), StepShape(16, 16, 16 * 512, 512)

STEP = ("saved for backward", "working memory of a layer", "LM head, one chunk")


def gigabytes(folder: Path, config: dict[str, Any]) -> list[str]:
    """A line of the table: weights in three precisions, then steps with and without recomputing."""
    (folder / "config.json").write_text(json.dumps(config))
    fields = {"lm": str(folder), "precision": "bf16", "encoder_width": 768, "cached": 6}
    model = shape_model(settings("full", **fields, prompt_length=10))
    layers = config["num_hidden_layers"]
    weights = [
        plan_memory(model, WeightPlacement(name), SHORT).weights
        for name in ("bf16", "int8", "int4")
    ]
    steps = [
        sum(
            plan_memory(model, WeightPlacement("bf16", recomputed=count), load).parts[x]
            for x in STEP
        )
        for load in (SHORT, LONG)
        for count in (0, layers)
    ]
    return [f"{count / 1e9:.1f}" for count in (*weights, *steps)]


def test_the_table_names_these_models() -> None:
    lines = PAGE.read_text().splitlines()
    named = [line.split("|")[1].strip(" `") for line in lines if line.count("|") == 9]
    assert named[2:] == list(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_table_gives_what_is_planned(tmp_path: Path, name: str) -> None:
    line = next(line for line in PAGE.read_text().splitlines() if f"`{name}`" in line)
    assert [cell.strip() for cell in line.split("|")[2:-1]] == gigabytes(tmp_path, CONFIGS[name])
