"""Layers that are computed again in the backward pass."""

import pytest
import torch
from torch import Tensor

from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.model_batch import Batch
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.generation.decode import generate
from epalm.model.method.model_settings import Decoding
from tests.model.helpers import tiny_opt, tiny_variant


def batch_of(size: int = 4) -> Batch:
    draw = torch.Generator().manual_seed(5)
    ids = torch.randint(4, 61, (size, 6), generator=draw)
    tokens = torch.randn(size, 2, 8, generator=draw)
    return Batch(tokens, ids, torch.ones_like(ids), ids, torch.arange(size))


def model_of(variant: str, count: int, dropout: float = 0.0) -> EPALM:
    model = tiny_variant(tiny_opt(), variant, lm_dropout=dropout).train()
    checkpoint_last_layers(model.language_model.model.decoder.layers, count)
    return model


def learn(model: EPALM) -> tuple[Tensor, dict[str, Tensor], int]:
    """The losses, the gradients, and the bytes kept for backward."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(7)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(batch_of()).values
    losses.sum().backward()
    gradients = {
        name: weight.grad for name, weight in trainable_parameters(model) if weight.grad is not None
    }
    return losses.detach(), gradients, sum(kept.values())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("variant", ["full", "ada", "deep-prompt", "lin"])
def test_losses_and_gradients_stay_the_same_and_less_is_kept(variant: str, dropout: float) -> None:
    losses, gradients, kept = learn(model_of(variant, 3, dropout))
    wanted_losses, wanted_gradients, wanted_kept = learn(model_of(variant, 0, dropout))
    assert torch.equal(losses, wanted_losses)
    assert gradients.keys() == wanted_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, wanted_gradients[name]), name
    assert kept < 0.6 * wanted_kept


def test_each_further_layer_saves_more_and_more_than_all_is_all() -> None:
    kept = [learn(model_of("full", count))[2] for count in (0, 1, 2, 4, 9)]
    assert kept[0] > kept[1] > kept[2] > kept[3] == kept[4]


def test_generation_is_left_alone() -> None:
    batch = batch_of()
    made = [
        generate(
            model_of("full", count).eval(),
            batch.features,
            batch.input_ids,
            batch.attention_mask,
            Decoding(4),
        )
        for count in (0, 4)
    ]
    assert torch.equal(*made)
