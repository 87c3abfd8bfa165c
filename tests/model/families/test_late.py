"""Late prompts: losses and gradients equal those of a stock model's layers over all tokens."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from epalm.model.engine.activation_checkpointing import checkpoint_last_layers
from epalm.model.engine.decoder_loop import compile_layers
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM
from tests.model.families.injected import some_features, some_texts
from tests.model.families.plain_concatenation import concatenated_logits
from tests.model.families.test_family_training import batch_of, gradients
from tests.model.families.zoo import own_model, shared_model
from tests.model.helpers import tiny_variant

FAMILIES = ("opt", "opt-post-norm-projected", "llama-grouped", "gemma2", "phi3", "gpt2")

IN_FULL = {"opt": ("fc1", "self_attn.k_proj"), "llama-grouped": ("mlp.up_proj", "self_attn.k_proj")}
"""Family -> names within a layer of a feed-forward map and of the map to keys."""

QUESTION = 5
"""Tokens of each text without supervision where only the answer is supervised."""


def late_model(name: str, variant: str, *, tail: str = "causal", own: bool = False) -> EPALM:
    lm = own_model(name) if own else shared_model(name)
    return tiny_variant(lm, variant, inject="2:5", tail=tail)


def answers_only(batch: Batch) -> Batch:
    labels = batch.labels.clone()
    labels[:, :QUESTION] = IGNORED
    return replace(batch, labels=labels)


def trained(model: EPALM, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses of the supervised tokens, and the gradients of their sum."""
    values = model(batch).values
    return values.detach(), gradients(model, values.sum())


def plainly_trained(name: str, model: EPALM, first: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The same from the reference, one text after the other; labels begin at position `first`."""
    features = some_features(model, 2)
    losses = []
    for image, text in zip([0, 0, 1], some_texts(), strict=True):
        logits = concatenated_logits(name, model, features[image], text)
        losses.append(cross_entropy(logits[first - 1 : -1], text[first:], reduction="none"))
    values = torch.cat(losses)
    return values.detach(), gradients(model, values.sum())


@pytest.mark.parametrize("supervise", ["all", "answer"])
@pytest.mark.parametrize("tail", ["causal", "drop", "to-end"])
@pytest.mark.parametrize("variant", ["late", "late-light", "late-deep", "late-ada"])
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_gradients_equal_those_of_all_tokens_in_full(
    name: str, variant: str, tail: str, supervise: str
) -> None:
    model = late_model(name, variant, tail=tail, own=variant == "late-ada")
    batch = batch_of(model)
    batch = answers_only(batch) if supervise == "answer" else batch
    actual = trained(model, batch)
    expected = plainly_trained(name, model, QUESTION if supervise == "answer" else 1)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    assert all(gradient.abs().max() > 0 for gradient in actual[1].values())


@pytest.mark.parametrize("variant", ["late", "late-deep", "late-ada"])
@pytest.mark.parametrize("name", ["opt", "llama-grouped"])
def test_recomputed_activations_give_the_same_gradients(name: str, variant: str) -> None:
    expected, model = (late_model(name, variant, own=True) for _ in range(2))
    checkpoint_last_layers(model.parts.layers, 4)
    batch = answers_only(batch_of(model))
    torch.testing.assert_close(trained(model, batch), trained(expected, batch), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore::DeprecationWarning")  # dynamo's
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["late", "late-deep", "late-ada"])
@pytest.mark.parametrize("name", ["opt", "llama-grouped"])
def test_compiled_layers_give_the_same_gradients(name: str, variant: str) -> None:
    expected = late_model(name, variant)
    model = late_model(name, variant, own=True)
    compile_layers(model.parts.layers, "eager")
    batch = answers_only(batch_of(model))
    actual = trained(model, batch)
    torch.testing.assert_close(actual, trained(expected, batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", IN_FULL)
def test_tokens_whose_output_nothing_reads_are_keys_and_values_only(name: str) -> None:
    """Rows of the feed-forward and of the map to keys, counted by hooks, in layers 2 to 5.

    There are 28 text tokens, 2 visual and 3 prompt tokens, and 13 tokens predict an answer.
    """
    expected = {
        "late-deep": (
            [28, 28, 28 + 2, 13],
            [33, 33, 33, 33],
        ),  # layer 5 reads layer 4's visual token
        "late": ([28 + 6, 28 + 6, 28 + 8, 13], [36, 36, 36, 36]),  # a prompt for each image
    }
    for variant, (in_full, keys) in expected.items():
        model = late_model(name, variant, own=True)
        batch = answers_only(batch_of(model))
        counts: dict[str, list[int]] = {part: [0] * 6 for part in IN_FULL[name]}
        for part, rows in counts.items():
            for index, layer in enumerate(model.parts.layers):
                layer.get_submodule(part).register_forward_pre_hook(
                    lambda _module, inputs, index=index, rows=rows: rows.__setitem__(
                        index, rows[index] + inputs[0].flatten(0, -2).shape[0]
                    )
                )
        assert len(model(batch).values) == 13
        assert [rows[2:] for rows in counts.values()] == [in_full, keys]


def test_a_batch_without_supervision_runs_all_layers_and_has_zero_gradients() -> None:
    model = late_model("opt", "late-deep")
    batch = batch_of(model)
    unsupervised = replace(batch, labels=torch.full_like(batch.labels, IGNORED))
    values, found = trained(model, unsupervised)
    assert len(values) == 0
    assert all(not gradient.any() for gradient in found.values())
    assert found.keys() == trained(model, batch)[1].keys()
