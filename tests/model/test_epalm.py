"""What must hold for any weights: equality with stock OPT, causality, exact caching."""

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
def tokens() -> Tensor:
    return torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def ids() -> Tensor:
    drawn = torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(6))
    drawn[:, 0] = 2
    return drawn


def right_padded(lengths: list[int], width: int) -> Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def text_logits(model: EPALM, tokens: Tensor, ids: Tensor) -> Tensor:
    with torch.no_grad():
        states = model.last_hidden_states(tokens, ids, torch.ones_like(ids))
        return model.logits(states).view(*ids.shape, -1)


def test_with_an_empty_plan_and_no_prompt_logits_equal_stock_opt(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor
) -> None:
    stock = OPTForCausalLM(copy.deepcopy(lm.config))
    stock.load_state_dict(lm.state_dict())
    stock.set_attn_implementation("eager")
    plan = InjectionPlan((None,) * lm.config.num_hidden_layers)
    model = EPALM(lm, Connectors(8, lm.config.hidden_size, 1), None, plan).eval()
    mask = right_padded([7, 4, 6], 7)
    with torch.no_grad():
        ours = model.logits(model.last_hidden_states(tokens, ids, mask))
        theirs = stock.eval()(input_ids=ids, attention_mask=mask).logits[mask.bool()]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("prompt", [0, 3])
def test_a_later_token_never_changes_an_earlier_logit(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, tail: Literal["causal", "drop"], prompt: int
) -> None:
    model = tiny_epalm(lm, tail=tail, prompt=prompt)
    changed = ids.clone()
    changed[:, 4:] = (changed[:, 4:] + 7) % 56 + 4
    before, after = (text_logits(model, tokens, one) for one in (ids, changed))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_the_official_tail_leaks_later_tokens(tokens: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt(), tail="official")
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 7) % 56 + 4
    before, after = (text_logits(model, tokens, one) for one in (ids, changed))
    assert (before[:, 0] - after[:, 0]).abs().max() > 1e-4


def test_the_official_mask_leaks_nothing_where_the_last_layer_is_injected(
    tokens: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt(), tail="official", stop=4)
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 7) % 56 + 4
    before, after = (text_logits(model, tokens, one) for one in (ids, changed))
    assert torch.equal(before[:, :-1], after[:, :-1])


def test_the_official_tail_lets_padding_change_a_logit(tokens: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt(), tail="official")
    mask = right_padded([4, 4, 4], 7)
    with torch.no_grad():
        padded = model.logits(model.last_hidden_states(tokens, ids, mask)).view(*ids.shape, -1)
    alone = text_logits(model, tokens, ids[:, :4])
    assert (padded[:, :4] - alone).abs().max() > 1e-4


@pytest.mark.parametrize("tail", TAILS)
def test_padding_changes_no_loss(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, tail: Literal["causal", "drop"]
) -> None:
    model = tiny_epalm(lm, tail=tail)
    lengths = [7, 4, 6]
    mask = right_padded(lengths, 7)
    labels = torch.where(mask.bool(), ids, IGNORED)
    together = model(Batch(tokens, ids, mask, labels, torch.arange(len(ids)))).per_example()
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        short = (part[one, :length] for part in (ids, mask, labels))
        alone = model(Batch(tokens[one], *short, torch.arange(1))).per_example()
        assert torch.allclose(together[one], alone, atol=1e-5)


def uncached_greedy(model: EPALM, tokens: Tensor, ids: Tensor, count: int) -> Tensor:
    for _ in range(count):
        ids = torch.cat([ids, text_logits(model, tokens, ids)[:, -1:].argmax(-1)], dim=1)
    return ids[:, -count:]


def uncached_beams(model: EPALM, tokens: Tensor, ids: Tensor, count: int, beams: int) -> list[int]:
    """Beam search for one sample by full recomputation, without an end token."""
    kept = [(0.0, ids[0].tolist())]
    for _ in range(count):
        grown = []
        for score, text in kept:
            logits = text_logits(model, tokens, torch.tensor([text]))[0, -1]
            best = logits.log_softmax(-1).topk(beams)
            grown += [
                (score + float(value), [*text, int(token)])
                for value, token in zip(best.values, best.indices, strict=True)
            ]
        kept = sorted(grown, reverse=True)[:beams]
    return kept[0][1][-count:]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("prompt", [0, 3])
def test_cached_greedy_equals_uncached_greedy(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, tail: Literal["causal", "drop"], prompt: int
) -> None:
    lm.config.eos_token_id = 60  # never drawn below, so that all samples run to the end
    model = tiny_epalm(lm, tail=tail, prompt=prompt)
    wanted = uncached_greedy(model, tokens, ids, 6)
    found = generate(model, tokens, ids, torch.ones_like(ids), Decoding(6, 1))
    assert 60 not in wanted
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize("tail", ["causal", "drop", "official"])
def test_cached_beams_equal_uncached_beams(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, tail: Literal["causal", "drop", "official"]
) -> None:
    lm.config.eos_token_id = None
    model = tiny_epalm(lm, tail=tail)
    assert model.plan.stop == len(model.plan.feature_of_layer) - 1
    for row in range(len(ids)):
        one = slice(row, row + 1)
        found = generate(model, tokens[one], ids[one], torch.ones_like(ids[one]), Decoding(4, 3))
        assert found[0].tolist() == uncached_beams(model, tokens[one], ids[one], 4, 3)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_left_padded_batch_generates_what_single_samples_generate(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, beams: int
) -> None:
    lm.config.eos_token_id = None
    model = tiny_epalm(lm)
    lengths = [7, 3, 5]
    padded, mask = torch.full_like(ids, 1), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        padded[row, 7 - length :], mask[row, 7 - length :] = ids[row, :length], 1
    together = generate(model, tokens, padded, mask, Decoding(5, beams))
    for row, length in enumerate(lengths):
        one = slice(row, row + 1)
        short = ids[one, :length]
        alone = generate(model, tokens[one], short, torch.ones_like(short), Decoding(5, beams))
        found, wanted = together[row].tolist(), alone[0].tolist()
        assert found == wanted + [1] * (len(found) - len(wanted))


def test_right_padding_is_refused_in_generation(tokens: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt())
    with pytest.raises(ModelError, match="needs left padding"):
        generate(model, tokens, ids, right_padded([7, 4, 6], 7), Decoding(2, 1))


def test_the_official_tail_refuses_to_generate_where_it_reads_more_than_the_last_layer(
    tokens: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt(), tail="official", stop=2)
    with pytest.raises(ModelError, match="tail 'official'"):
        generate(model, tokens, ids, torch.ones_like(ids), Decoding(2, 1))


def test_only_connectors_and_prompt_are_trained_and_the_frozen_model_stays_as_it_is(
    tokens: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt())
    before = weights_digest(model.language_model)
    names = [name for name, _ in trainable_parameters(model)]
    assert all(name.startswith(("connectors.", "prompt.")) for name in names)
    optimizer = torch.optim.SGD([weight for _, weight in trainable_parameters(model)], lr=0.1)
    model(
        Batch(tokens, ids, torch.ones_like(ids), ids, torch.arange(len(ids)))
    ).values.mean().backward()
    optimizer.step()
    assert weights_digest(model.language_model) == before


def test_an_unfrozen_weight_is_noticed() -> None:
    model = tiny_epalm(tiny_opt())
    model.language_model.lm_head.weight.requires_grad_(requires_grad=True)
    with pytest.raises(ModelError, match="requires a gradient"):
        list(trainable_parameters(model))


def test_dropout_of_the_frozen_model_is_off_unless_asked(tokens: Tensor, ids: Tensor) -> None:
    quiet = tiny_epalm(tiny_opt()).train()
    batch = Batch(tokens, ids, torch.ones_like(ids), ids, torch.arange(len(ids)))
    assert torch.equal(quiet(batch).values, quiet(batch).values)
    noisy = EPALM(quiet.language_model, quiet.connectors, quiet.prompt, quiet.plan, lm_dropout=0.5)
    noisy.train()
    assert not torch.equal(noisy(batch).values, noisy(batch).values)
    noisy.eval()
    assert torch.equal(noisy(batch).values, noisy(batch).values)


@pytest.mark.parametrize("tail", ["causal", "official", "drop"])
@pytest.mark.parametrize("variant", ["full", "l19-31+deep-prompt", "magma"])
def test_questions_that_share_a_picture_cost_and_teach_what_they_do_apart(
    lm: OPTForCausalLM, variant: str, tail: Tail
) -> None:
    model = tiny_variant(lm, variant, tail=tail)
    image_index = torch.tensor([1, 0, 1, 1, 2, 0])
    tokens = torch.randn(3, 2, 8)
    ids = torch.randint(4, 60, (6, 7))
    mask = (torch.arange(7) < torch.tensor([7, 4, 5, 7, 3, 6])[:, None]).long()
    labels = ids.masked_fill(mask == 0, IGNORED)
    found = []
    for batch in (
        Batch(tokens, ids, mask, labels, image_index),
        Batch(tokens[image_index], ids, mask, labels, torch.arange(6)),
    ):
        model.zero_grad()
        losses = model(batch).per_example()
        losses.mean().backward()
        found.append((losses.detach(), dict(gradients(model))))
    (grouped, shared), (apart, own) = found
    assert torch.allclose(grouped, apart, atol=1e-5)
    for name, gradient in shared.items():
        assert torch.allclose(gradient, own[name], rtol=1e-4, atol=1e-6), name


def gradients(model: EPALM) -> Iterator[tuple[str, Tensor]]:
    for name, weight in trainable_parameters(model):
        assert weight.grad is not None
        yield name, weight.grad.clone()
