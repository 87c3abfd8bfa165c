"""Activation checkpointing: equal losses and gradients with less memory."""

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
    features = torch.randn(size, 2, 8, generator=draw)
    return Batch(features, ids, torch.ones_like(ids), ids, torch.arange(size))


def model_of(variant: str, count: int, dropout: float = 0.0) -> EPALM:
    model = tiny_variant(tiny_opt(), variant, lm_dropout=dropout).train()
    checkpoint_last_layers(model.language_model.model.decoder.layers, count)
    return model


def train_step(model: EPALM) -> tuple[Tensor, dict[str, Tensor], int]:
    """The losses, the gradients, and the bytes saved for backward."""
    saved: dict[int, int] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(7)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        losses = model(batch_of()).values
    losses.sum().backward()
    gradients = {
        name: weight.grad for name, weight in trainable_parameters(model) if weight.grad is not None
    }
    return losses.detach(), gradients, sum(saved.values())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("variant", ["full", "ada", "deep-prompt", "lin"])
def test_losses_and_gradients_stay_the_same_and_fewer_bytes_are_saved(
    variant: str, dropout: float
) -> None:
    losses, gradients, saved = train_step(model_of(variant, 3, dropout))
    expected_losses, expected_gradients, expected_saved = train_step(model_of(variant, 0, dropout))
    assert torch.equal(losses, expected_losses)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected_gradients[name]), name
    assert saved < 0.6 * expected_saved


def test_each_checkpointed_layer_saves_memory_and_more_than_all_layers_is_all() -> None:
    saved = [train_step(model_of("full", count))[2] for count in (0, 1, 2, 4, 9)]
    assert saved[0] > saved[1] > saved[2] > saved[3] == saved[4]


def test_generation_gives_the_same_ids() -> None:
    batch = batch_of()
    generated = [
        generate(
            model_of("full", count).eval(),
            batch.features,
            batch.input_ids,
            batch.attention_mask,
            Decoding(4),
        )
        for count in (0, 4)
    ]
    assert torch.equal(*generated)
