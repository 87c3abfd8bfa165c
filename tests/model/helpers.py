"""Tiny models for the tests of the model package."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from epalm.model.build import assemble
from epalm.model.engine.language_model import freeze
from epalm.model.epalm import EPALM
from epalm.model.method.adapter import Adapters
from epalm.model.method.connector import Connectors
from epalm.model.method.injection import Tail, plan_injection
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.prompt import SoftPrompt

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def tiny_opt(*, pre_norm: bool = True, layers: int = 4, projected: bool = False) -> OPTForCausalLM:
    """A random frozen OPT of width 24, with weights large enough for tokens to affect logits."""
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
    return freeze(OPTForCausalLM(config))


def tiny_epalm(
    lm: OPTForCausalLM, *, cached: int = 2, tail: Tail = "causal", prompt: int = 3, stop: int = 3
) -> EPALM:
    """A model with encoder width 8, injected from layer 1, and a soft prompt."""
    torch.manual_seed(1)
    width = lm.config.word_embed_proj_dim
    assert width is not None
    plan = plan_injection(lm.config.num_hidden_layers, cached, first=1, stop=stop, tail=tail)
    connectors = Connectors(8, lm.config.hidden_size, cached)
    soft = SoftPrompt(prompt, width, hidden=width) if prompt else None
    return EPALM(lm, connectors, soft, plan).eval()


def settings(variant: str, **changes: Any) -> ModelSettings:  # noqa: ANN401 - any field's value
    """Settings of a model with this variant; its language model does not exist."""
    fields: dict[str, Any] = {
        "lm": "none",
        "precision": "fp32",
        "encoder_width": 8,
        "cached": 2,
        "prompt_length": 3,
        "inject": "auto",
        "tail": "causal",
        "lm_dropout": 0.0,
        "template": "{answer}",
        "supervise": "all",
    }
    return ModelSettings(variant=variant, **(fields | changes))


def tiny_variant(lm: OPTForCausalLM, variant: str, **changes: Any) -> EPALM:  # noqa: ANN401
    """A variant's model in eval mode, with adapters large enough to affect logits."""
    torch.manual_seed(1)
    model = assemble(lm, settings(variant, **changes)).eval()
    if model.adapters is not None:
        for name, weight in model.adapters.named_parameters():
            if name.endswith("down.bias"):
                torch.nn.init.ones_(weight)  # a ReLU that outputs only zeros has no gradient
            else:
                torch.nn.init.normal_(weight, std=0.2)
    return model


def text_logits(model: EPALM, features: Tensor, ids: Tensor) -> Tensor:
    """Logits (B, T, vocabulary) of texts without padding."""
    with torch.no_grad():
        states = model.last_hidden_states(features, ids, torch.ones_like(ids))
        return model.logits(states).view(*ids.shape, -1)


@dataclass
class GoldenCase:
    """One case of tests/golden."""

    config: dict[str, Any]
    model: EPALM
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]


def load_golden(name: str) -> GoldenCase:
    """The case's model with its weights and the official tail, its inputs and outputs."""
    folder = GOLDEN / name
    config = json.loads((folder / "case.json").read_text())
    lm = OPTForCausalLM(OPTConfig(**config["opt_config"], dropout=0.0))
    weights = load_file(folder / "lm.safetensors")
    weights["lm_head.weight"] = weights["model.decoder.embed_tokens.weight"]
    lm.load_state_dict(weights)
    model = _assemble_golden(freeze(lm), config)
    model.load_state_dict(
        {
            _our_name(name): weight
            for name, weight in load_file(folder / "trainable.safetensors").items()
        }
        | {f"language_model.{name}": weight for name, weight in weights.items()}
    )
    inputs = load_file(folder / "inputs.safetensors")
    return GoldenCase(config, model.eval(), inputs, load_file(folder / "expected.safetensors"))


def golden_name(name: str) -> str:
    """The golden files' name of one of our trained tensors."""
    return name.replace("connectors.maps.", "connector.").replace("adapters.", "adapter.")


def _our_name(name: str) -> str:
    return name.replace("connector.", "connectors.maps.").replace("adapter.", "adapters.")


def _assemble_golden(lm: OPTForCausalLM, config: dict[str, Any]) -> EPALM:
    opt = config["opt_config"]
    layers, width = opt["num_hidden_layers"], opt["hidden_size"]
    count = 1 if config["shared_connector"] else config["num_cls"]
    prompt = None
    if config["prompt_length"]:
        embedded = opt["word_embed_proj_dim"]
        hidden = embedded if config["prompt_mlp"] else 0
        prompt = SoftPrompt(config["prompt_length"], embedded, hidden=hidden)
    plan = plan_injection(
        layers,
        config["num_cls"],
        first=config["start_layer"],
        stop=config["end_layer"],
        tail="official",
    )
    adapter = config["adapter"]
    return EPALM(
        lm,
        Connectors(config["encoder_dim"], width, count),
        prompt,
        plan,
        adapters=Adapters(layers, width, adapter["factor"]) if adapter else None,
    )
