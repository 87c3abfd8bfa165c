"""Compiled layers give the same losses and gradients as plain ones."""

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from epalm.model.engine.decoder_loop import compile_layers
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM, trainable_parameters
from tests.model.helpers import tiny_opt, tiny_variant


def make_batch(size: int, length: int) -> Batch:
    """A batch whose first text is shorter and whose first two texts are about the same image."""
    generator = torch.Generator().manual_seed(size)
    ids = torch.randint(4, 60, (size, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, length - 2 :] = 0
    image_index = torch.arange(size).sub(1).clamp(min=0)
    features = torch.randn(size - 1, 2, 8, generator=generator)
    return Batch(features, ids, mask, ids.masked_fill(mask == 0, IGNORED), image_index)


def losses_and_gradients(model: EPALM, batch: Batch) -> dict[str, Tensor]:
    model.zero_grad()
    losses = model(batch).per_example()
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
        pytest.param("aot_eager", "late-deep", marks=pytest.mark.slow),
        pytest.param("inductor", "full", marks=pytest.mark.slow),
    ],
)
def test_compiled_layers_give_the_same_losses_and_gradients_for_batches_of_all_sizes(
    backend: str, variant: str
) -> None:
    torch.compiler.reset()
    counters.clear()
    plain, compiled = (tiny_variant(tiny_opt(layers=6), variant) for _ in range(2))
    compile_layers(compiled.language_model.model.decoder.layers, backend)
    for batch in (make_batch(3, 7), make_batch(4, 9), make_batch(6, 5)):
        expected = losses_and_gradients(plain, batch)
        results = losses_and_gradients(compiled, batch)
        assert results.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.allclose(results[name], value, rtol=1e-4, atol=1e-5), name
    assert not counters["graph_break"]
    if variant == "full":
        assert counters["stats"]["unique_graphs"] <= 2
    torch.compiler.reset()
