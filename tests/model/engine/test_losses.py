"""The head's losses and gradients against PyTorch's cross-entropy."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from epalm.model.engine.losses import CHUNK_TOKENS, TokenLosses, head_losses
from epalm.model.engine.onednn_linear import use_onednn_layout


def head(weight: Tensor, *, trained: bool = False) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight, requires_grad=trained)
    return linear


@pytest.mark.parametrize("kind", ["frozen", "onednn", "trained"])
@pytest.mark.parametrize("softcap", [None, 2.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, CHUNK_TOKENS, 2 * CHUNK_TOKENS + 7])
def test_losses_and_gradients_equal_those_of_pytorch(
    count: int, smoothing: float, softcap: float | None, kind: str
) -> None:
    generator = torch.Generator().manual_seed(count)
    states = torch.randn(count, 12, generator=generator, requires_grad=True)
    weight = torch.randn(90, 12, generator=generator)
    targets = torch.randint(0, 90, (count,), generator=generator)
    upstream = torch.randn(count, generator=generator)
    logits = states @ weight.T
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    plain = cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    (expected,) = torch.autograd.grad((plain * upstream).sum(), states)
    linear = head(weight, trained=kind == "trained")
    assert use_onednn_layout(linear if kind == "onednn" else nn.Identity()) == (kind == "onednn")
    losses = head_losses(states, linear, targets, label_smoothing=smoothing, softcap=softcap)
    (gradient,) = torch.autograd.grad((losses * upstream).sum(), states)
    assert torch.allclose(losses, plain, atol=1e-5)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_the_bfloat16_loss_is_as_accurate_as_that_of_pytorch() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(300, 64, generator=generator, dtype=torch.float64)
    weight = torch.randn(500, 64, generator=generator, dtype=torch.float64) / 8
    targets = torch.randint(0, 500, (300,), generator=generator)
    truth = cross_entropy(exact.bfloat16().double() @ weight.bfloat16().double().T, targets)
    states = exact.bfloat16().requires_grad_()
    plain = cross_entropy((states @ weight.bfloat16().T).float(), targets)
    loss = head_losses(states, head(weight.bfloat16()), targets).mean()
    assert loss.dtype == torch.float32
    assert abs(loss - truth) <= 2 * abs(plain - truth) + 1e-4
    (gradient,) = torch.autograd.grad(loss, states)
    assert gradient.dtype == torch.bfloat16


def test_no_gradient_is_computed_unless_needed() -> None:
    states, weight = torch.randn(5, 4), torch.randn(9, 4)
    losses = head_losses(states, head(weight), torch.zeros(5, dtype=torch.long))
    assert not losses.requires_grad


def test_an_examples_loss_is_the_sum_over_its_tokens() -> None:
    losses = TokenLosses(torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([2, 0, 2, 2]), 4)
    assert losses.per_example().tolist() == [2.0, 0.0, 13.0, 0.0]
