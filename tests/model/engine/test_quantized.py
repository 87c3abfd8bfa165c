"""Codes and scales of quantized weights against numbers that are worked out by hand."""

import torch
from torch import nn

from epalm.model.engine.quantized import QuantizedLinear, quantize, weight_count

WEIGHT = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [0.3, 0.1, -0.2]])


def linear_map(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear


def test_int8_codes_are_127ths_of_the_largest_weight_of_a_row() -> None:
    """The codes of the first row are the rounded 63.5, -127 and 31.75, where 63.5 is rounded to
    the even 64; those of the last row are the rounded 127, 42.33 and -84.67."""
    quantized = QuantizedLinear(linear_map(WEIGHT), "int8")
    codes, scales = quantized.get_buffer("codes"), quantized.get_buffer("scales")
    assert codes.dtype == torch.int8
    assert codes.tolist() == [[64, -127, 32], [0, 0, 0], [127, 42, -85]]
    torch.testing.assert_close(scales[[0, 2]], torch.tensor([2 / 127, 0.3 / 127]))
    expected = codes.float() * torch.tensor([[2 / 127], [0.0], [0.3 / 127]])
    torch.testing.assert_close(quantized.weight(torch.float32), expected)
    assert quantized.weight(torch.bfloat16).dtype == torch.bfloat16


def test_a_quantized_map_adds_the_bias_once_and_keeps_the_leading_dimensions() -> None:
    bias = torch.tensor([1.0, 2.0, 3.0])
    states = torch.tensor([[[127.0, 0.0, 0.0]], [[0.0, 127.0, 0.0]]])
    expected = torch.tensor([[[128.0, 0.0, 38.1]], [[-254.0, 0.0, 12.6]]])
    product = QuantizedLinear(linear_map(WEIGHT), "int8")(states)
    torch.testing.assert_close(product, expected)
    product = QuantizedLinear(linear_map(WEIGHT, bias), "int8")(states)
    torch.testing.assert_close(product, expected + bias)


def test_all_linear_maps_within_a_module_are_replaced_and_nothing_else_is() -> None:
    inner = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    module = nn.Sequential(inner, nn.Embedding(5, 3), nn.Linear(4, 2, bias=False))
    plain = weight_count(module)
    assert plain == 3 * 4 + 4 + 4 + 4 + 5 * 3 + 4 * 2
    quantize(module, "int8")
    assert [type(part) for part in inner] == [QuantizedLinear, nn.LayerNorm]
    assert [type(part) for part in module] == [nn.Sequential, nn.Embedding, QuantizedLinear]
    assert weight_count(module) == plain
