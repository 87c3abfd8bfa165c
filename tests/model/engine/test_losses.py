import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from epalm.model.engine.losses import CHUNK_TOKENS, head_losses
from epalm.model.engine.onednn_linear import use_onednn_layout


def head(weight: Tensor, *, trained: bool = False) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight, requires_grad=trained)
    return linear


@pytest.mark.parametrize("kind", ["frozen", "blocked", "trained"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, CHUNK_TOKENS, 2 * CHUNK_TOKENS + 7])
def test_losses_and_gradients_equal_pytorchs(rows: int, smoothing: float, kind: str) -> None:
    generator = torch.Generator().manual_seed(rows)
    states = torch.randn(rows, 12, generator=generator, requires_grad=True)
    weight = torch.randn(90, 12, generator=generator)
    targets = torch.randint(0, 90, (rows,), generator=generator)
    upstream = torch.randn(rows, generator=generator)
    plain = cross_entropy(states @ weight.T, targets, reduction="none", label_smoothing=smoothing)
    (wanted,) = torch.autograd.grad((plain * upstream).sum(), states)
    used = head(weight, trained=kind == "trained")
    assert use_onednn_layout(used if kind == "blocked" else nn.Identity()) == (kind == "blocked")
    found = head_losses(states, used, targets, label_smoothing=smoothing)
    (gradient,) = torch.autograd.grad((found * upstream).sum(), states)
    assert torch.allclose(found, plain, atol=1e-5)
    assert torch.allclose(gradient, wanted, atol=1e-5)


def test_in_bfloat16_the_loss_is_as_exact_as_pytorchs() -> None:
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(300, 64, generator=generator, dtype=torch.float64)
    weight = torch.randn(500, 64, generator=generator, dtype=torch.float64) / 8
    targets = torch.randint(0, 500, (300,), generator=generator)
    truth = cross_entropy(exact.bfloat16().double() @ weight.bfloat16().double().T, targets)
    states = exact.bfloat16().requires_grad_()
    plain = cross_entropy((states @ weight.bfloat16().T).float(), targets)
    found = head_losses(states, head(weight.bfloat16()), targets).mean()
    assert found.dtype == torch.float32
    assert abs(found - truth) <= 2 * abs(plain - truth) + 1e-4
    (gradient,) = torch.autograd.grad(found, states)
    assert gradient.dtype == torch.bfloat16


def test_no_gradient_is_computed_where_none_is_asked() -> None:
    states, weight = torch.randn(5, 4), torch.randn(9, 4)
    losses = head_losses(states, head(weight), torch.zeros(5, dtype=torch.long))
    assert not losses.requires_grad
