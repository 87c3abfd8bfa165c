"""The comparison with transformers' own forward pass: how much it compares, what it refuses."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from epalm.errors import ModelError
from epalm.model.engine import stock_check
from epalm.model.engine.language_model import freeze
from epalm.model.engine.stock_check import check_against_stock
from epalm.model.families.decoder_parts import decoder_parts
from tests.model.families.zoo import config_of, own_model, randomize


def called_layers(model: PreTrainedModel) -> list[int]:
    """The indices of the layers in the order of their calls during a comparison."""
    called: list[int] = []
    for index, layer in enumerate(decoder_parts(model).layers):
        layer.register_forward_hook(lambda *_, number=index: called.append(number))
    check_against_stock(model, "counted")
    return called


@pytest.mark.parametrize(("spare", "expected"), [(-1, 2), (0, 3), (10**9, 6)])
def test_as_many_layers_are_compared_as_have_the_bound_of_weights(
    monkeypatch: pytest.MonkeyPatch, spare: int, expected: int
) -> None:
    model = own_model("llama-grouped")
    weights = sum(weight.numel() for weight in decoder_parts(model).layers[0].parameters())
    monkeypatch.setattr(stock_check, "CHECKED_WEIGHTS", 3 * weights + spare)
    assert called_layers(model) == [*range(expected)] * 2


def test_a_model_of_one_layer_is_compared() -> None:
    config = config_of("llama-grouped")
    config.num_hidden_layers = 1
    config.layer_types = None
    model = freeze(randomize(AutoModelForCausalLM.from_config(config)).eval())
    assert called_layers(model) == [0, 0]


def test_a_head_that_is_not_finite_is_called_damaged() -> None:
    model = own_model("llama-untied-biased-head-12")
    decoder_parts(model).head.weight.data[3, 4] = torch.inf
    with pytest.raises(ModelError, match="computes numbers that are not finite"):
        check_against_stock(model, "damaged")


def test_a_model_whose_layer_fails_keeps_the_dtype_of_its_weights() -> None:
    model = own_model("llama-grouped").bfloat16()
    layer = decoder_parts(model).layers[2]

    def fail(*_: Any, **__: Any) -> None:  # noqa: ANN401 - a layer's arguments
        raise ValueError("out of order")

    layer.forward = fail
    with pytest.raises(ModelError, match=r"cannot be compared .*\(out of order\)"):
        check_against_stock(model, "failing")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    hooks = [part for part in model.modules() if part._forward_hooks or part._forward_pre_hooks]
    assert hooks == []


@pytest.mark.parametrize(
    ("dtype", "accepted", "refused", "message"),
    [
        (torch.float32, 1.0005, 1.002, "0.002 of the largest value, at most 1e-03"),
        (torch.float16, 1.005, 1.02, "0.02 of the largest value, at most 1e-02"),
        (torch.bfloat16, 1.02, 1.1, "0.09. of the largest value, at most 5e-02"),
    ],
)
def test_a_head_that_does_more_than_multiply_is_noticed_within_the_precision_of_its_dtype(
    dtype: torch.dtype, accepted: float, refused: float, message: str
) -> None:
    model = own_model("llama-untied-biased-head-12")
    nn.Module.to(model, dtype)
    forward = model.forward
    factor = accepted

    def scaled(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - transformers' signature
        output = forward(*args, **kwargs)
        output.logits = factor * output.logits.double()
        return output

    model.forward = scaled
    check_against_stock(model, "nearly equal")
    factor = refused
    with pytest.raises(ModelError, match=rf"computes other logits .* differ by {message}"):
        check_against_stock(model, "scaled")


def test_the_comparison_of_bfloat16_weights_computes_the_layers_in_float32() -> None:
    model = own_model("llama-grouped").bfloat16()
    seen: set[torch.dtype] = set()

    def record(layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen.update({inputs[0].dtype, output.dtype, *(w.dtype for w in layer.parameters())})

    for layer in decoder_parts(model).layers:
        layer.register_forward_hook(record, prepend=True)
    check_against_stock(model, "bfloat16")
    assert seen == {torch.float32}
