"""Compiled layers compute what plain ones do."""

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from epalm.model.engine.decoder_loop import compile_layers
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM, trainable_parameters
from tests.model.helpers import tiny_opt, tiny_variant


def batch(size: int, length: int) -> Batch:
    """Some samples; the first text is shorter, the first two ask about one picture."""
    generator = torch.Generator().manual_seed(size)
    ids = torch.randint(4, 60, (size, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, length - 2 :] = 0
    image_index = torch.arange(size).sub(1).clamp(min=0)
    tokens = torch.randn(size - 1, 2, 8, generator=generator)
    return Batch(tokens, ids, mask, ids.masked_fill(mask == 0, IGNORED), image_index)


def outcome(model: EPALM, given: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    losses = model(given).per_example()
    losses.mean().backward()
    gradients = {
        name: weight.grad for name, weight in trainable_parameters(model) if weight.grad is not None
    }
    return {"losses": losses.detach()} | gradients


@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore::DeprecationWarning")  # dynamo's
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize(
    ("backend", "variant"),
    [
        ("aot_eager", "full"),
        pytest.param("aot_eager", "ada", marks=pytest.mark.slow),
        pytest.param("inductor", "full", marks=pytest.mark.slow),
    ],
)
def test_compiled_layers_learn_the_same_from_batches_of_all_sizes(
    backend: str, variant: str
) -> None:
    torch.compiler.reset()
    counters.clear()
    plain, compiled = (tiny_variant(tiny_opt(layers=6), variant) for _ in range(2))
    compile_layers(compiled.language_model.model.decoder.layers, backend)
    for given in (batch(3, 7), batch(4, 9), batch(6, 5)):
        wanted, found = outcome(plain, given), outcome(compiled, given)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            assert torch.allclose(found[name], value, rtol=1e-4, atol=1e-5), name
    assert not counters["graph_break"]
    if variant == "full":
        assert counters["stats"]["unique_graphs"] <= 2
    torch.compiler.reset()
