"""Small models for the model tests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import OPTConfig

from epalm.model.connector import Connectors
from epalm.model.epalm import EPALM
from epalm.model.injection import Tail, plan_injection
from epalm.model.language_model import PrefixedOPT, freeze
from epalm.model.prompt import SoftPrompt

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def tiny_opt(*, pre_norm: bool = True, layers: int = 4, projected: bool = False) -> PrefixedOPT:
    """A random frozen OPT, 24 wide, with weights large enough for different tokens to matter."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=61,
        hidden_size=24,
        ffn_dim=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        word_embed_proj_dim=16 if projected else 24,
        do_layer_norm_before=pre_norm,
        max_position_embeddings=64,
        dropout=0.0,
        init_std=0.2,
    )
    return freeze(PrefixedOPT(config))


def tiny_epalm(
    lm: PrefixedOPT, *, cached: int = 2, tail: Tail = "causal", prompt: int = 3, stop: int = 3
) -> EPALM:
    """Connectors of width 8 injected from layer 1, and a soft prompt."""
    torch.manual_seed(1)
    width = lm.config.word_embed_proj_dim
    assert width is not None
    plan = plan_injection(lm.config.num_hidden_layers, cached, first=1, stop=stop, tail=tail)
    connectors = Connectors(8, lm.config.hidden_size, cached)
    soft = SoftPrompt(prompt, width, hidden=width) if prompt else None
    return EPALM(lm, connectors, soft, plan).eval()


@dataclass
class GoldenCase:
    """One case of tests/golden."""

    config: dict[str, Any]
    model: EPALM
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]


def load_golden(name: str) -> GoldenCase:
    """Build the case's model with its weights and the official tail."""
    folder = GOLDEN / name
    config = json.loads((folder / "case.json").read_text())
    lm = PrefixedOPT(OPTConfig(**config["opt_config"], dropout=0.0))
    weights = load_file(folder / "lm.safetensors")
    weights["lm_head.weight"] = weights["model.decoder.embed_tokens.weight"]
    lm.load_state_dict(weights)
    model = EPALM(freeze(lm), *_trained_parts(config, load_file(folder / "trainable.safetensors")))
    inputs = load_file(folder / "inputs.safetensors")
    return GoldenCase(config, model.eval(), inputs, load_file(folder / "expected.safetensors"))


def _trained_parts(config: dict[str, Any], weights: dict[str, Tensor]) -> tuple[Any, ...]:
    opt = config["opt_config"]
    shared = config["shared_connector"]
    count = 1 if shared else config["num_cls"]
    connectors = Connectors(config["encoder_dim"], opt["hidden_size"], count)
    connectors.load_state_dict(
        {k.replace("connector.", "maps."): v for k, v in weights.items() if "connector" in k}
    )
    prompt = None
    if config["prompt_length"]:
        width = opt["word_embed_proj_dim"]
        hidden = width if config["prompt_mlp"] else 0
        prompt = SoftPrompt(config["prompt_length"], width, hidden=hidden)
        prompt.load_state_dict(
            {k.removeprefix("prompt."): v for k, v in weights.items() if k.startswith("prompt")}
        )
    plan = plan_injection(
        opt["num_hidden_layers"],
        config["num_cls"],
        first=config["start_layer"],
        stop=config["end_layer"],
        tail="official",
    )
    return connectors, prompt, plan
