"""Late prompts: losses and gradients equal those of a stock model's layers over all tokens."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM
from tests.model.families.injected import some_features, some_texts
from tests.model.families.plain_concatenation import concatenated_logits
from tests.model.families.test_family_training import batch_of, gradients
from tests.model.families.zoo import own_model, shared_model
from tests.model.helpers import tiny_variant

FAMILIES = ("opt", "opt-post-norm-projected", "llama-grouped", "gemma2", "phi3", "gpt2")

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
@pytest.mark.parametrize("variant", ["late", "late-light", "late-deep"])
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_gradients_equal_those_of_all_tokens_in_full(
    name: str, variant: str, tail: str, supervise: str
) -> None:
    model = late_model(name, variant, tail=tail)
    batch = batch_of(model)
    batch = answers_only(batch) if supervise == "answer" else batch
    actual = trained(model, batch)
    expected = plainly_trained(name, model, QUESTION if supervise == "answer" else 1)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    assert all(gradient.abs().max() > 0 for gradient in actual[1].values())
