"""The resampler against a plain computation of the published formulas, one query at a time."""

import math

import pytest
import torch
from torch import Tensor

from epalm.errors import UsageError
from epalm.model.method.resampler import Resampler, head_count
from epalm.model.method.resampler_shape import ResamplerShape
from tests.model.helpers import text_logits, tiny_opt, tiny_variant

IDS = torch.tensor([[2, 7, 9], [2, 8, 4]])


def plain_norm(values: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centered = values - values.mean()
    scaled = centered / torch.sqrt((centered**2).mean() + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def plain_attention(
    normed: list[Tensor], read: list[Tensor], weights: dict[str, Tensor], block: str, heads: int
) -> list[Tensor]:
    """What each query adds to its state: softmax(q k / sqrt(width of a head)) v, head by head."""
    width = len(normed[0])
    size = width // heads
    key_map, value_map = weights[f"{block}.to_key_value.weight"].split(width)
    outputs = []
    for query in normed:
        mixed = torch.zeros(width)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            asked = (weights[f"{block}.to_query.weight"] @ query)[part]
            scores = torch.stack(
                [asked @ (key_map @ token)[part] / math.sqrt(size) for token in read]
            )
            shares = scores.exp() / scores.exp().sum()
            for share, token in zip(shares, read, strict=True):
                mixed[part] += share * (value_map @ token)[part]
        outputs.append(weights[f"{block}.to_output.weight"] @ mixed)
    return outputs


def plain_resampler(
    weights: dict[str, Tensor], image: Tensor, *, layers: int, heads: int
) -> Tensor:
    """(Q, H) for the tokens (T, D) of one image."""
    tokens = [weights["project_in.weight"] @ token + weights["project_in.bias"] for token in image]
    states = list(weights["queries"])
    for index in range(layers):
        block = f"blocks.{index}"
        normed = [plain_norm(state, weights, f"{block}.query_norm") for state in states]
        read = [plain_norm(token, weights, f"{block}.token_norm") for token in tokens] + normed
        added = plain_attention(normed, read, weights, block, heads)
        states = [state + change for state, change in zip(states, added, strict=True)]
        for place, state in enumerate(states):
            hidden = weights[f"{block}.up.weight"] @ plain_norm(state, weights, f"{block}.ffn_norm")
            squared = torch.where(hidden > 0, hidden**2, torch.zeros(()))
            states[place] = state + weights[f"{block}.down.weight"] @ squared
    out, bias = weights["project_out.weight"], weights["project_out.bias"]
    return torch.stack([out @ plain_norm(state, weights, "norm") + bias for state in states])


@pytest.mark.parametrize(
    ("shape", "heads"), [(ResamplerShape(3, 2, 128), 2), (ResamplerShape(5, 1), 1)]
)
def test_outputs_and_gradients_are_those_of_the_published_formulas(
    shape: ResamplerShape, heads: int
) -> None:
    torch.manual_seed(2)
    resampler = Resampler(12, 20, shape)
    for weight in resampler.parameters():  # no norm is the identity, no query is small
        torch.nn.init.normal_(weight, std=0.3)
    weights = dict(resampler.named_parameters())
    features = torch.randn(2, 7, 12)
    (outputs,) = resampler(features)
    expected = torch.cat(
        [plain_resampler(weights, image, layers=shape.layers, heads=heads) for image in features]
    )
    assert resampler.visual_tokens == shape.queries
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(outputs)
    gradients = torch.autograd.grad((outputs * direction).sum(), list(weights.values()))
    plain_gradients = torch.autograd.grad((expected * direction).sum(), list(weights.values()))
    for name, gradient, plain in zip(weights, gradients, plain_gradients, strict=True):
        torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("width", "heads"), [(8, 1), (64, 1), (192, 3), (200, 2), (768, 12), (1021, 1)]
)
def test_heads_divide_the_width_and_are_not_narrow(width: int, heads: int) -> None:
    assert head_count(width) == heads


@pytest.mark.parametrize("changes", [{"queries": 0}, {"layers": 0}, {"width": -1}])
def test_impossible_shapes_are_refused(changes: dict[str, int]) -> None:
    name = next(iter(changes))
    with pytest.raises(UsageError, match=f"{name} is {changes[name]}, expected"):
        ResamplerShape(**changes)


@pytest.mark.parametrize(
    ("name", "changes", "layers"),
    [
        ("resampler", {}, [0]),
        ("resampler", {"inject": "2:3"}, [2]),
        ("resampler-inner", {}, list(range(8, 12))),
    ],
)
def test_visual_tokens_enter_at_the_input_or_at_inner_layers(
    name: str, changes: dict[str, str], layers: list[int]
) -> None:
    shape = ResamplerShape(queries=5)
    lm = tiny_opt(layers=13)
    model = tiny_variant(lm, name, cached=2, positions=3, resampler=shape, **changes)
    features = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(5))
    (expected,) = model.connectors(features[:, 3:])
    inputs: list[Tensor] = []
    for layer in lm.model.decoder.layers:
        layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0][0]))
    text_logits(model, features, IDS)
    injected = [torch.equal(hidden[:10], expected) for hidden in inputs]
    assert [index for index, found in enumerate(injected) if found] == layers
    assert [len(hidden) - IDS.numel() for hidden in inputs] == [
        10 if index >= layers[0] else 0 for index in range(13)
    ]
