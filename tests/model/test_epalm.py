"""Properties for any weights: equality with stock OPT, causality, exact caching."""

import copy
from collections.abc import Iterator
from typing import Literal

import pytest
import torch
from torch import Tensor
from transformers import OPTForCausalLM

from epalm.errors import ModelError
from epalm.model.engine.language_model import weights_digest
from epalm.model.engine.model_batch import IGNORED, Batch
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.generation.decode import generate
from epalm.model.method.connector import Connectors
from epalm.model.method.injection import InjectionPlan, Tail
from epalm.model.method.model_settings import Decoding
from tests.model.helpers import tiny_epalm, tiny_opt, tiny_variant

SHAPES = [
    pytest.param({"pre_norm": True}, id="pre-LN"),
    pytest.param({"pre_norm": False, "projected": True}, id="post-LN"),
]
TAILS: list[Literal["causal", "drop"]] = ["causal", "drop"]


@pytest.fixture(params=SHAPES)
def lm(request: pytest.FixtureRequest) -> OPTForCausalLM:
    return tiny_opt(**request.param)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def ids() -> Tensor:
    drawn = torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(6))
    drawn[:, 0] = 2
    return drawn


def right_padded(lengths: list[int], width: int) -> Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def text_logits(model: EPALM, features: Tensor, ids: Tensor) -> Tensor:
    with torch.no_grad():
        states = model.last_hidden_states(features, ids, torch.ones_like(ids))
        return model.logits(states).view(*ids.shape, -1)


def test_with_an_empty_plan_and_no_prompt_logits_equal_stock_opt(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor
) -> None:
    stock = OPTForCausalLM(copy.deepcopy(lm.config))
    stock.load_state_dict(lm.state_dict())
    stock.set_attn_implementation("eager")
    plan = InjectionPlan((None,) * lm.config.num_hidden_layers)
    model = EPALM(lm, Connectors(8, lm.config.hidden_size, 1), None, plan).eval()
    mask = right_padded([7, 4, 6], 7)
    with torch.no_grad():
        ours = model.logits(model.last_hidden_states(features, ids, mask))
        theirs = stock.eval()(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("prompt", [0, 3])
def test_a_later_token_never_changes_an_earlier_logit(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: Literal["causal", "drop"], prompt: int
) -> None:
    model = tiny_epalm(lm, tail=tail, prompt=prompt)
    changed = ids.clone()
    changed[:, 4:] = (changed[:, 4:] + 7) % 56 + 4
    before, after = (text_logits(model, features, text) for text in (ids, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_the_official_tail_leaks_later_tokens(features: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt(), tail="official")
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 7) % 56 + 4
    before, after = (text_logits(model, features, text) for text in (ids, changed))
    assert (before[:, 0] - after[:, 0]).abs().max() > 1e-4


def test_the_official_tail_leaks_nothing_if_the_last_layer_is_injected(
    features: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt(), tail="official", stop=4)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 7) % 56 + 4
    before, after = (text_logits(model, features, text) for text in (ids, changed))
    assert torch.equal(before[:, :-1], after[:, :-1])


def test_the_official_tail_lets_padding_change_a_logit(features: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt(), tail="official")
    mask = right_padded([4, 4, 4], 7)
    with torch.no_grad():
        padded = model.logits(model.last_hidden_states(features, ids, mask)).view(*ids.shape, -1)
    alone = text_logits(model, features, ids[:, :4])
    assert (padded[:, :4] - alone).abs().max() > 1e-4


@pytest.mark.parametrize("tail", TAILS)
def test_padding_does_not_change_a_loss(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: Literal["causal", "drop"]
) -> None:
    model = tiny_epalm(lm, tail=tail)
    lengths = [7, 4, 6]
    mask = right_padded(lengths, 7)
    labels = torch.where(mask.bool(), ids, IGNORED)
    together = model(Batch(features, ids, mask, labels, torch.arange(len(ids)))).per_example()
    for row, length in enumerate(lengths):
        single = slice(row, row + 1)
        short = (part[single, :length] for part in (ids, mask, labels))
        alone = model(Batch(features[single], *short, torch.arange(1))).per_example()
        assert torch.allclose(together[single], alone, atol=1e-5)


def uncached_greedy(model: EPALM, features: Tensor, ids: Tensor, count: int) -> Tensor:
    for _ in range(count):
        ids = torch.cat([ids, text_logits(model, features, ids)[:, -1:].argmax(-1)], dim=1)
    return ids[:, -count:]


def uncached_beams(
    model: EPALM, features: Tensor, ids: Tensor, count: int, beams: int
) -> list[int]:
    """Beam search for one text by full recomputation, without an end token."""
    beam = [(0.0, ids[0].tolist())]
    for _ in range(count):
        extended = []
        for score, text in beam:
            logits = text_logits(model, features, torch.tensor([text]))[0, -1]
            best = logits.log_softmax(-1).topk(beams)
            extended += [
                (score + float(value), [*text, int(token)])
                for value, token in zip(best.values, best.indices, strict=True)
            ]
        beam = sorted(extended, reverse=True)[:beams]
    return beam[0][1][-count:]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("prompt", [0, 3])
def test_cached_greedy_equals_uncached_greedy(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: Literal["causal", "drop"], prompt: int
) -> None:
    lm.config.eos_token_id = 60  # not generated below, so that no text ends early
    model = tiny_epalm(lm, tail=tail, prompt=prompt)
    expected = uncached_greedy(model, features, ids, 6)
    generated = generate(model, features, ids, torch.ones_like(ids), Decoding(6, 1))
    assert 60 not in expected
    assert generated.tolist() == expected.tolist()


@pytest.mark.parametrize("tail", ["causal", "drop", "official"])
def test_cached_beams_equal_uncached_beams(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: Literal["causal", "drop", "official"]
) -> None:
    lm.config.eos_token_id = None
    model = tiny_epalm(lm, tail=tail)
    assert model.plan.stop == len(model.plan.feature_of_layer) - 1
    for row in range(len(ids)):
        image, text = features[row : row + 1], ids[row : row + 1]
        generated = generate(model, image, text, torch.ones_like(text), Decoding(4, 3))
        assert generated[0].tolist() == uncached_beams(model, image, text, 4, 3)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_left_padded_batch_generates_the_same_as_single_texts(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, beams: int
) -> None:
    lm.config.eos_token_id = None
    model = tiny_epalm(lm)
    lengths = [7, 3, 5]
    padded, mask = torch.full_like(ids, 1), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        padded[row, 7 - length :], mask[row, 7 - length :] = ids[row, :length], 1
    together = generate(model, features, padded, mask, Decoding(5, beams))
    for row, length in enumerate(lengths):
        image, short = features[row : row + 1], ids[row : row + 1, :length]
        alone = generate(model, image, short, torch.ones_like(short), Decoding(5, beams))
        batched, single = together[row].tolist(), alone[0].tolist()
        assert batched == single + [1] * (len(batched) - len(single))


def test_generation_rejects_right_padding(features: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt())
    with pytest.raises(ModelError, match="needs left padding"):
        generate(model, features, ids, right_padded([7, 4, 6], 7), Decoding(2, 1))


def test_the_official_tail_cannot_generate_if_it_reaches_more_than_the_last_layer(
    features: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt(), tail="official", stop=2)
    with pytest.raises(ModelError, match="tail 'official'"):
        generate(model, features, ids, torch.ones_like(ids), Decoding(2, 1))


def test_only_connectors_and_prompt_are_trained_and_the_frozen_weights_do_not_change(
    features: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt())
    before = weights_digest(model.language_model)
    names = [name for name, _ in trainable_parameters(model)]
    assert all(name.startswith(("connectors.", "prompt.")) for name in names)
    optimizer = torch.optim.SGD([weight for _, weight in trainable_parameters(model)], lr=0.1)
    model(
        Batch(features, ids, torch.ones_like(ids), ids, torch.arange(len(ids)))
    ).values.mean().backward()
    optimizer.step()
    assert weights_digest(model.language_model) == before


def test_a_frozen_weight_that_requires_a_gradient_is_an_error() -> None:
    model = tiny_epalm(tiny_opt())
    model.language_model.lm_head.weight.requires_grad_(requires_grad=True)
    with pytest.raises(ModelError, match="requires a gradient"):
        list(trainable_parameters(model))


def test_dropout_of_the_frozen_model_is_off_by_default(features: Tensor, ids: Tensor) -> None:
    plain = tiny_epalm(tiny_opt()).train()
    batch = Batch(features, ids, torch.ones_like(ids), ids, torch.arange(len(ids)))
    assert torch.equal(plain(batch).values, plain(batch).values)
    dropped = EPALM(
        plain.language_model, plain.connectors, plain.prompt, plain.plan, lm_dropout=0.5
    )
    dropped.train()
    assert not torch.equal(dropped(batch).values, dropped(batch).values)
    dropped.eval()
    assert torch.equal(dropped(batch).values, dropped(batch).values)


@pytest.mark.parametrize("tail", ["causal", "official", "drop"])
@pytest.mark.parametrize("variant", ["full", "l19-31+deep-prompt", "magma"])
def test_texts_that_share_an_image_have_the_losses_and_gradients_of_separate_ones(
    lm: OPTForCausalLM, variant: str, tail: Tail
) -> None:
    model = tiny_variant(lm, variant, tail=tail)
    image_index = torch.tensor([1, 0, 1, 1, 2, 0])
    features = torch.randn(3, 2, 8)
    ids = torch.randint(4, 60, (6, 7))
    mask = (torch.arange(7) < torch.tensor([7, 4, 5, 7, 3, 6])[:, None]).long()
    labels = ids.masked_fill(mask == 0, IGNORED)
    results = []
    for batch in (
        Batch(features, ids, mask, labels, image_index),
        Batch(features[image_index], ids, mask, labels, torch.arange(6)),
    ):
        model.zero_grad()
        losses = model(batch).per_example()
        losses.mean().backward()
        results.append((losses.detach(), dict(gradients(model))))
    (shared_losses, shared), (separate_losses, separate) = results
    assert torch.allclose(shared_losses, separate_losses, atol=1e-5)
    for name, gradient in shared.items():
        assert torch.allclose(gradient, separate[name], rtol=1e-4, atol=1e-6), name


def gradients(model: EPALM) -> Iterator[tuple[str, Tensor]]:
    for name, weight in trainable_parameters(model):
        assert weight.grad is not None
        yield name, weight.grad.clone()
