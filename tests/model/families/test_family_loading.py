"""Loading a language model of any family, and the refusal of those that the loop cannot run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from epalm.errors import ModelError
from epalm.model.engine.language_model import load_config, load_language_model
from epalm.model.engine.packed_attention import ATTENTION
from epalm.model.engine.stock_check import check_against_stock
from epalm.model.families import decoder_parts as module
from epalm.model.families.config_check import REFUSED
from epalm.model.families.decoder_parts import LayerKind, decoder_parts
from epalm.model.families.family import FAMILIES, text_positions
from tests.model.families.injected import some_features, some_texts, uninjected
from tests.model.families.zoo import (
    CONFIGS,
    LLAMA,
    NAMES,
    SHAPE,
    SMALL_DIFFERENCE,
    config_of,
    own_model,
    randomize,
    shared_model,
    stock_model,
)
from tests.model.helpers import text_logits

SIMILAR: dict[str, dict[str, Any]] = {
    "olmo": LLAMA,
    "glm": LLAMA | {"head_dim": 8},
    "glm4": LLAMA | {"head_dim": 8},
    "helium": LLAMA | {"head_dim": 8},
    "arcee": LLAMA,
    "ernie4_5": LLAMA | {"head_dim": 8},
}
"""Families without an entry that the loop reproduces."""

DIFFERENT: dict[str, dict[str, Any]] = {
    "granite": LLAMA | {"embedding_multiplier": 3.0, "logits_scaling": 2.0},
    "cohere": LLAMA | {"logit_scale": 0.5},
}
"""Families whose code does more than their layers show."""

REFUSED_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "gptj": (SHAPE, "rotates within its attention"),
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, "ALiBi"),
    "falcon": (SHAPE, "attention code of its own"),
    "gpt_neo": ({"hidden_size": 32}, "attention code of its own"),
    "mixtral": (LLAMA | {"num_local_experts": 4}, "mixture of experts"),
    "qwen3_moe": (LLAMA | {"num_experts": 4}, "mixture of experts"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2}, "recurrent layers"),
    "jamba": ({}, "recurrent layers"),
    "t5": ({}, "an encoder-decoder; expected a decoder-only causal language model"),
    "bart": ({}, "an encoder-decoder; expected"),
    "bert": (
        {"architectures": ["BertForMaskedLM"]},
        r"an encoder, .* \(BertForMaskedLM\);",
    ),
    "roberta": ({"is_decoder": True}, "an encoder, which predicts masked tokens from both sides"),
    "vit": ({"architectures": ["ViTModel"]}, r"no language model .* \(ViTModel\); expected a deco"),
    "gemma3": ({}, "an encoder of its own"),
    "deepseek_v2": ({}, "mixture of experts|compressed form"),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_is_loaded_with_its_logits(name: str, precision: str, tmp_path: Path) -> None:
    stock_model(name).save_pretrained(tmp_path)
    model = load_language_model(str(tmp_path), precision)
    assert model.config._attn_implementation == ATTENTION
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert not any(weight.requires_grad for weight in model.parameters())
    model = model.float()
    plain, text = uninjected(model), some_texts()[0][None]
    actual = text_logits(plain, some_features(plain, 1), text)
    with torch.no_grad():
        expected = stock_model(name)(input_ids=text).logits
    if precision == "fp32":
        torch.testing.assert_close(actual, expected, rtol=0, atol=SMALL_DIFFERENCE)
    else:
        assert (actual - expected).norm() < 0.2 * expected.norm()


def test_every_family_with_an_entry_is_tested() -> None:
    assert {model_type for model_type, _ in CONFIGS.values()} == set(FAMILIES)


@pytest.mark.parametrize("model_type", SIMILAR)
def test_a_family_without_an_entry_is_loaded_if_its_logits_are_reproduced(
    model_type: str, tmp_path: Path
) -> None:
    saved(model_type, SIMILAR[model_type], tmp_path)
    assert load_language_model(str(tmp_path), "fp32").config.model_type == model_type


@pytest.mark.parametrize("model_type", DIFFERENT)
def test_a_family_with_other_logits_is_refused_with_the_difference(
    model_type: str, tmp_path: Path
) -> None:
    saved(model_type, DIFFERENT[model_type], tmp_path)
    with pytest.raises(ModelError, match=r"computes other .* differ by .*: use .* families gemma"):
        load_language_model(str(tmp_path), "fp32")


@pytest.mark.parametrize("model_type", REFUSED_CONFIGS)
def test_a_structure_that_the_loop_cannot_run_is_refused_before_its_weights_are_read(
    model_type: str, tmp_path: Path
) -> None:
    values, message = REFUSED_CONFIGS[model_type]
    AutoConfig.for_model(model_type, **values).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=rf"({message}).* families gemma"):
        load_config(str(tmp_path), "fp32")


IMPOSSIBLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "rotation": (
        "llama",
        {"rope_parameters": {"rope_type": "no"}},
        "has rope_type 'no', expected",
    ),
    "base of 0": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 0}},
        "has rope_theta 0, expected more than 0",
    ),
    "base in words": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": "big"}},
        "has rope_theta 'big', expected a number",
    ),
    "base of a kind": (
        "gemma3_text",
        {"rope_parameters": {"sliding_attention": {"rope_type": "default", "rope_theta": -1}}},
        "has rope_theta -1, expected more than 0",
    ),
    "wide rotation": (
        "gpt_neox",
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 5}},
        "has partial_rotary_factor 5, expected at most 1",
    ),
    "norm": ("llama", {"rms_norm_eps": -1.0}, "has rms_norm_eps -1.0, expected 0 or more"),
    "scale": (
        "gemma3_text",
        {"query_pre_attn_scalar": 0},
        "query_pre_attn_scalar 0, exp",
    ),
    "number in words": ("llama", {"num_hidden_layers": "8"}, "num_hidden_layers': .*expected int"),
    "kinds": ("gemma3_text", {"layer_types": ["full_attention"]}, r"layer_types?'?: .*\w"),
}
"""Kind of error -> family, changes of config.json, message."""


@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_an_impossible_value_of_config_json_is_named(kind: str, tmp_path: Path) -> None:
    family, changes, message = IMPOSSIBLE[kind]
    AutoConfig.for_model(family, num_hidden_layers=2).save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        load_config(str(tmp_path), "fp32")


def test_weights_that_are_not_finite_are_called_damaged() -> None:
    model = own_model("llama-grouped")
    decoder_parts(model).layers[1].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(
        ModelError, match=r"damaged computes numbers that are not finite .* damaged;"
    ):
        check_against_stock(model, "damaged")


def test_the_reasons_of_a_refusal_are_for_families_without_an_entry() -> None:
    assert not REFUSED.keys() & FAMILIES.keys()


@pytest.mark.parametrize("name", ["mistral-window", "gemma2", "phi3"])
def test_a_window_that_the_loop_forgets_is_noticed_however_long_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = own_model(name)
    model.config.sliding_window = 4096
    check_against_stock(model, name)
    assert model.config.sliding_window == 4096
    monkeypatch.setattr(module, "layer_kinds", lambda _: (LayerKind("sliding_attention"),) * 6)
    with pytest.raises(ModelError, match="computes other hidden states"):
        check_against_stock(model, name)


def test_a_forward_pass_that_does_more_than_its_layers_is_noticed() -> None:
    model = own_model("llama-grouped")
    forward = type(model.base_model).forward

    def changed(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - transformers' signature
        output = forward(model.base_model, *args, **kwargs)
        output.last_hidden_state = 1.01 * output.last_hidden_state
        return output

    model.base_model.forward = changed
    with pytest.raises(ModelError, match="computes other hidden states"):
        check_against_stock(model, "changed")


def test_a_forward_pass_without_the_arguments_of_the_comparison_is_refused() -> None:
    model = own_model("llama-grouped")
    forward = model.forward

    def older(input_ids: Tensor, attention_mask: Tensor, *, use_cache: bool) -> object:
        return forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    model.forward = older
    reason = r"forward pass of older cannot be compared .*'logits_to_keep'.*: use .* families gemma"
    with pytest.raises(ModelError, match=reason):
        check_against_stock(model, "older")
    model.forward = forward
    check_against_stock(model, "llama")


def test_layers_with_a_state_that_runs_through_the_text_are_noticed() -> None:
    model = own_model("llama-grouped")
    decoder_parts(model).layers[1].register_forward_hook(
        lambda _module, _inputs, output: output + 0.1 * output.cumsum(dim=1)
    )
    with pytest.raises(ModelError, match="computes other hidden states"):
        check_against_stock(model, "recurrent")


def test_a_model_without_the_parts_of_a_decoder_is_refused() -> None:
    with torch.device("meta"):
        bert = AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", is_decoder=True))
    with pytest.raises(ModelError, match=r"bert model has no .* families gemma"):
        decoder_parts(bert)


def test_the_comparison_leaves_the_model_as_it_was() -> None:
    model = own_model("gemma3").bfloat16()
    before = {name: (weight.dtype, weight.clone()) for name, weight in model.state_dict().items()}
    check_against_stock(model, "gemma3")
    after = model.state_dict()
    assert all(after[name].dtype == dtype for name, (dtype, _) in before.items())
    assert all(torch.equal(after[name], weight) for name, (_, weight) in before.items())
    assert len(decoder_parts(model).layers) == 6
    assert model.config._attn_implementation == ATTENTION
    hooks = [part for part in model.modules() if part._forward_hooks or part._forward_pre_hooks]
    assert hooks == []


def test_few_first_layers_are_compared_but_one_of_each_kind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("epalm.model.engine.stock_check.CHECKED_WEIGHTS", 1)
    for name, expected in (("llama-grouped", 1), ("gemma3", 6), ("gemma2", 2), ("qwen2-window", 4)):
        model = own_model(name)
        layers = decoder_parts(model).layers
        called: list[int] = []
        for index, layer in enumerate(layers):
            layer.register_forward_hook(lambda *_, kept=called, number=index: kept.append(number))
        check_against_stock(model, name)
        assert called == [*range(expected)] * 2


def test_a_longrope_model_takes_texts_of_its_pretrainings_length() -> None:
    assert text_positions(config_of("phi3-longrope")) == 32
    assert text_positions(config_of("llama3-rope")) == 64


def test_weights_in_pytorchs_format_are_refused(tmp_path: Path) -> None:
    model = stock_model("llama-grouped")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_language_model(str(tmp_path), "fp32")


def test_code_in_a_models_folder_is_not_run(tmp_path: Path) -> None:
    stock_model("llama-grouped").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model", "AutoConfig": "evil.Config"}
    file.write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    load_language_model(str(tmp_path), "fp32")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_model_on_the_meta_device_has_the_same_parts(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(name))
    parts, expected = decoder_parts(model), decoder_parts(shared_model(name))
    assert parts.kinds == expected.kinds
    assert (parts.heads, parts.key_value_heads, parts.head_width) == (
        expected.heads,
        expected.key_value_heads,
        expected.head_width,
    )


def saved(model_type: str, values: dict[str, Any], folder: Path) -> None:
    """A random model of a family in a folder."""
    config = AutoConfig.for_model(model_type, **values)
    randomize(AutoModelForCausalLM.from_config(config)).save_pretrained(folder)
