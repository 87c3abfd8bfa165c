"""Frozen weights in oneDNN layout against plain ones."""

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

from epalm.model.engine import onednn_linear
from epalm.model.engine.language_model import weights_digest
from epalm.model.engine.model_batch import Batch
from epalm.model.engine.onednn_linear import OnednnLinear, onednn_layout_works, use_onednn_layout
from epalm.model.epalm import trainable_parameters
from epalm.model.generation.decode import generate
from epalm.model.method.adapter import Adapters
from epalm.model.method.model_settings import Decoding
from tests.model.helpers import tiny_opt, tiny_variant


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", ["with bias", "without"])
@pytest.mark.parametrize("shape", [(1, 24), (3, 5, 24)])
def test_a_map_in_onednn_layout_gives_the_same_products_and_gradients(
    shape: tuple[int, ...], bias: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(24, 40, bias=bias == "with bias", dtype=dtype)
    plain.requires_grad_(requires_grad=False)
    fast = copy.deepcopy(plain)
    assert use_onednn_layout(fast) == (1 if onednn_layout_works(dtype) else 0)
    states = torch.randn(shape, dtype=dtype, requires_grad=True)
    upstream = torch.randn(*shape[:-1], 40, dtype=dtype)
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    product, expected = fast(states), plain(states)
    assert product.dtype == dtype
    assert torch.allclose(product, expected, rtol=tolerance, atol=tolerance)
    (gradient,) = torch.autograd.grad(product, states, upstream)
    (expected_gradient,) = torch.autograd.grad(expected, states, upstream)
    assert torch.allclose(gradient, expected_gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm", ["pre-LN", "post-LN"])
@pytest.mark.parametrize("variant", ["full", "ada"])
def test_a_model_with_weights_in_onednn_layout_has_the_same_losses_gradients_and_texts(
    variant: str, norm: str
) -> None:
    lm = tiny_opt(pre_norm=norm == "pre-LN", projected=norm == "post-LN")
    model = tiny_variant(lm, variant)
    ids = torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.randn(3, 2, 8), ids, torch.ones_like(ids), ids, torch.arange(3))

    def results() -> tuple[Tensor, dict[str, Tensor], list[list[int]]]:
        model.zero_grad()
        losses = model(batch).per_example()
        losses.mean().backward()
        gradients = {name: weight.grad.clone() for name, weight in trainable_parameters(model)}
        generated = generate(model, batch.features, ids, batch.attention_mask, Decoding(5))
        return losses.detach(), gradients, generated.tolist()

    losses, gradients, generated = results()
    digest = weights_digest(lm)
    assert use_onednn_layout(lm) == 4 * 6 + (1 if norm == "pre-LN" else 3)
    fast_losses, fast_gradients, fast_generated = results()
    assert torch.allclose(fast_losses, losses, atol=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(fast_gradients[name], gradient, rtol=1e-4, atol=1e-6), name
    assert fast_generated == generated
    assert weights_digest(lm) == digest


def test_trained_maps_are_not_converted() -> None:
    adapters = Adapters(1, 24, 8)
    assert use_onednn_layout(adapters) == 0


@pytest.mark.parametrize(("weights", "converted"), [(4, 1), (3.99, 0), (2, 0)])
def test_weights_are_converted_if_two_copies_take_half_of_the_free_memory_at_most(
    monkeypatch: pytest.MonkeyPatch, weights: float, converted: int
) -> None:
    plain = nn.Linear(24, 40).requires_grad_(requires_grad=False)
    monkeypatch.setattr(onednn_linear, "free_memory", lambda: weights * plain.weight.nbytes)
    assert use_onednn_layout(plain) == converted
    assert isinstance(plain, OnednnLinear) == bool(converted)


def test_float16_weights_are_not_converted() -> None:
    plain = nn.Linear(24, 40, dtype=torch.float16).requires_grad_(requires_grad=False)
    assert use_onednn_layout(plain) == 0
    assert not onednn_layout_works(torch.float16)


def test_weights_of_a_supported_dtype_are_converted_beside_those_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = nn.ModuleList([nn.Linear(24, 40), nn.Linear(40, 24, dtype=torch.bfloat16)])
    maps.requires_grad_(requires_grad=False)
    monkeypatch.setattr(onednn_linear, "onednn_layout_works", lambda dtype: dtype == torch.float32)
    assert use_onednn_layout(maps) == 1
    assert [type(part) for part in maps] == [OnednnLinear, nn.Linear]


@pytest.mark.parametrize("operation", ["_reorder_linear_weight", "_linear_pointwise"])
@pytest.mark.parametrize("failure", [RuntimeError, AttributeError])
def test_weights_are_not_converted_if_onednn_does_not_support_them(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    operation: str,
    failure: type[Exception],
) -> None:
    def fail(*_: object) -> Tensor:
        raise failure("no such operation on this machine")

    plain = nn.Linear(24, 40).requires_grad_(requires_grad=False)
    onednn_layout_works.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, operation, fail)
    try:
        with caplog.at_level(logging.INFO, logger="epalm"):
            assert use_onednn_layout(plain) == 0
    finally:
        onednn_layout_works.cache_clear()
    assert not isinstance(plain, OnednnLinear)
    assert [record.getMessage() for record in caplog.records] == [
        "oneDNN has no kernel for float32 weights here: using plain products"
    ]


def test_weights_are_not_converted_if_products_in_onednn_layout_are_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = nn.Linear(24, 40).requires_grad_(requires_grad=False)
    onednn_layout_works.cache_clear()
    monkeypatch.setattr(onednn_linear, "_onednn_product", lambda states, weight, bias: states + 1)
    try:
        assert use_onednn_layout(plain) == 0
    finally:
        onednn_layout_works.cache_clear()


def test_float32_weights_can_be_converted_wherever_onednn_is_available() -> None:
    assert onednn_layout_works(torch.float32) == torch.backends.mkldnn.is_available()
