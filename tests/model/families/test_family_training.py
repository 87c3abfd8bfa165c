"""Each family's loss, gradients, adapters, quantized weights and recomputed activations."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from epalm.errors import ModelError
from epalm.model.engine import losses
from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.decoder_loop import compile_layers
from epalm.model.engine.model_batch import Batch, collate_texts
from epalm.model.engine.onednn_linear import OnednnLinear, use_onednn_layout
from epalm.model.engine.quantized import QuantizedLinear, quantize
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.families.decoder_parts import decoder_parts
from tests.model.families.injected import injected, some_features, some_texts
from tests.model.families.zoo import (
    NAMES,
    SMALL_DIFFERENCE,
    own_model,
    shared_model,
    stock_model,
)
from tests.model.helpers import text_logits, tiny_variant

SMOOTHING = 0.1

WITHOUT_DROPOUT = (
    *("llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "mistral", "smollm3"),
    *("olmo2", "olmo3"),
)


def batch_of(model: EPALM) -> Batch:
    """Three right-padded texts about two images."""
    texts = [(text[:3].tolist(), text[3:].tolist()) for text in some_texts()]
    ids, mask, labels = collate_texts(texts, supervise="all", pad=0)
    return Batch(some_features(model, 2), ids, mask, labels, torch.tensor([0, 0, 1]))


def gradients(model: EPALM, loss: Tensor) -> dict[str, Tensor]:
    """The loss and the gradient of every trained tensor."""
    model.zero_grad()
    loss.backward()
    named = {name: weight.grad for name, weight in trainable_parameters(model)}
    return {name: grad.clone() for name, grad in named.items() if grad is not None}


def loss_and_gradients(model: EPALM) -> tuple[Tensor, dict[str, Tensor]]:
    values = model(batch_of(model), SMOOTHING).values
    return values.detach(), gradients(model, values.sum())


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients_in_chunks_equal_those_of_all_logits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_TOKENS", 7)
    model = injected(shared_model(name), "causal tail, soft prompt")
    batch = batch_of(model)
    values, actual = loss_and_gradients(model)
    states = model.last_hidden_states(
        batch.features, batch.input_ids, batch.attention_mask, image_index=batch.image_index
    )
    lengths = batch.attention_mask.sum(1).tolist()
    logits = [part[:-1] for part in model.logits(states).split(lengths)]
    targets = [row[1:length] for row, length in zip(batch.labels, lengths, strict=True)]
    expected = cross_entropy(
        torch.cat(logits), torch.cat(targets), reduction="none", label_smoothing=SMOOTHING
    )
    torch.testing.assert_close(values, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual, gradients(model, expected.sum()), rtol=1e-3, atol=1e-4)
    assert all(grad.abs().sum() > 0 for grad in actual.values())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_adapters_change_the_output_of_each_sublayer(name: str) -> None:
    plain = injected(shared_model(name), "no prompt")
    adapted = tiny_variant(own_model(name), "ada")
    assert adapted.adapters is not None
    features, text = some_features(plain, 1), some_texts()[0][None]
    layer = adapted.parts.layers[2]
    outputs: dict[str, Tensor] = {}

    def keep(label: str) -> Any:  # noqa: ANN401 - a hook
        return lambda _module, _inputs, output: outputs.update(
            {label: output[0] if isinstance(output, tuple) else output}
        )

    def before(sublayer: str, module: nn.Module) -> None:
        """Record the sublayer's own output, by its weights, and what its parent makes of it."""

        def record(part: nn.Module, inputs: tuple[Tensor]) -> None:
            assert isinstance(part.weight, Tensor)
            own = nn.functional.linear(inputs[0], part.weight, part.bias)  # type: ignore[arg-type]
            outputs[f"{sublayer} own"] = own

        module.register_forward_pre_hook(record)

    for sublayer, path in zip(("attention", "ffn"), adapted.parts.sublayers, strict=True):
        before(sublayer, layer.get_submodule(path))
        parent = path.rpartition(".")[0]
        layer.get_submodule(parent or path).register_forward_hook(keep(sublayer))
    logits = text_logits(adapted, features, text)
    for sublayer in ("attention", "ffn"):
        adapter = adapted.adapters.get_submodule(f"2.{sublayer}")
        torch.testing.assert_close(outputs[sublayer], adapter(outputs[f"{sublayer} own"]))
        assert (outputs[sublayer] - outputs[f"{sublayer} own"]).abs().max() > 0.01
    assert (logits - text_logits(plain, features, text)).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_text_below_the_injection_has_the_stock_models_hidden_states(name: str) -> None:
    model = injected(shared_model(name), "no prompt")
    batch = batch_of(model)
    states = model.lower_text_states(batch.input_ids, batch.attention_mask)
    stock = stock_model(name)(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
    ).hidden_states[model.plan.first]
    expected = stock[batch.attention_mask.bool()]
    torch.testing.assert_close(states, expected, rtol=0, atol=SMALL_DIFFERENCE)
    cached = Batch(**{**vars(batch), "text_states": states})
    torch.testing.assert_close(model(cached).values, model(batch).values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_recomputed_activations_give_the_same_gradients(name: str) -> None:
    expected = loss_and_gradients(injected(shared_model(name), "causal tail, soft prompt"))
    model = injected(own_model(name), "causal tail, soft prompt")
    checkpoint_last_layers(model.parts.layers, 4)
    torch.testing.assert_close(loss_and_gradients(model), expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled_layers_give_the_same_gradients(name: str) -> None:
    expected = loss_and_gradients(injected(shared_model(name), "causal tail, soft prompt"))
    model = injected(own_model(name), "causal tail, soft prompt")
    compile_layers(model.parts.layers, "eager")
    torch.testing.assert_close(loss_and_gradients(model), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("precision", "error"), [("int8", 0.01), ("int4", 0.15)])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_quantized_layers_compute_with_weights_close_to_the_exact_ones(
    name: str, precision: str, error: float
) -> None:
    lm, exact = own_model(name), own_model(name)
    quantize(decoder_parts(lm).layers, precision)
    for path, part in lm.named_modules():
        if isinstance(part, QuantizedLinear):
            weight = exact.get_submodule(path).weight
            assert isinstance(weight, Tensor)
            rounded = part.weight(torch.float32)
            assert 0 < (rounded - weight).norm() < error * weight.norm()
            weight.copy_(rounded)
    assert [w.shape for w in decoder_parts(lm).layers.parameters() if w.dim() > 1] == []
    case = "causal tail, soft prompt"
    quantized, rounded_model = injected(lm, case), injected(exact, case)
    features, text = some_features(quantized, 1), some_texts()[0][None]
    actual, expected = (text_logits(m, features, text) for m in (quantized, rounded_model))
    torch.testing.assert_close(actual, expected, rtol=0, atol=SMALL_DIFFERENCE)


@pytest.mark.parametrize("name", ["gpt2", "phi", "gemma2", "gpt-neox-parallel"])
def test_weights_in_onednn_layout_give_the_same_gradients(name: str) -> None:
    expected = loss_and_gradients(injected(shared_model(name), "causal tail, soft prompt"))
    lm = own_model(name)
    use_onednn_layout(lm)
    model = injected(lm, "causal tail, soft prompt")
    assert all(
        isinstance(part, OnednnLinear)
        for part in model.parts.layers.modules()
        if isinstance(part, nn.Linear)
    )
    torch.testing.assert_close(loss_and_gradients(model), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_in_training_or_is_refused(name: str) -> None:
    lm = own_model(name)
    if lm.config.model_type in WITHOUT_DROPOUT:
        with pytest.raises(ModelError, match="no dropout: use lm_dropout 0"):
            tiny_variant(lm, "6-connectors", lm_dropout=0.5)
        return
    model = tiny_variant(lm, "6-connectors", lm_dropout=0.5)
    states = torch.randn(1, 4, 32)
    rotations = model.parts.rotations(states, torch.arange(4))

    def outputs_are_equal() -> bool:
        first, second = (model.parts.run_layer(0, states, rotations) for _ in range(2))
        return torch.equal(first, second)

    model.eval()
    assert outputs_are_equal()
    model.train()
    assert not outputs_are_equal()
    for dropout in model.parts.dropout:
        model.parts.set_dropout(0.0)
        replace(model.parts, dropout=(dropout,)).set_dropout(0.5)
        assert not outputs_are_equal()
