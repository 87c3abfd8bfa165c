"""Every tail, text step and prompt against a plain computation without packed batches.

Stock OPT layers with eager attention process one sequence [visual | prompt | text] with an additive
mask. The injected layers are written out here independently, from the method's description.
"""

import copy

import pytest
import torch
from torch import Tensor
from transformers import OPTForCausalLM

from epalm.model.epalm import EPALM
from epalm.model.generation.decode import generate
from epalm.model.method.injection import Tail
from epalm.model.method.model_settings import Decoding
from epalm.model.method.prompt import DeepPrompt, SoftPrompt
from tests.model.helpers import tiny_opt, tiny_variant

LAYERS, FIRST, STOP, FEATURES, PROMPT = 9, 1, 7, 3, 3
VARIANTS = ["full", "6-connectors", "l19-31+deep-prompt"]
TAILS = ["causal", "official", "drop", "to-end"]


@pytest.fixture(
    params=[
        pytest.param({"pre_norm": True}, id="pre-LN"),
        pytest.param({"pre_norm": False, "projected": True}, id="post-LN"),
    ]
)
def lm(request: pytest.FixtureRequest) -> OPTForCausalLM:
    return tiny_opt(layers=LAYERS, **request.param)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, FEATURES, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def ids() -> Tensor:
    drawn = torch.randint(4, 60, (2, 6), generator=torch.Generator().manual_seed(6))
    drawn[:, 0] = 2
    return drawn


def build(
    lm: OPTForCausalLM, variant: str, tail: str, text_step: int, *, stop: int = STOP
) -> EPALM:
    span = f"{FIRST}:{stop}"
    return tiny_variant(lm, variant, cached=FEATURES, inject=span, tail=tail, text_step=text_step)


def additive_mask(length: int, *, first_sees_all: bool) -> Tensor:
    """(1, 1, S, S): 0 where a query position sees a key position, elsewhere the lowest float."""
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
    if first_sees_all:
        mask[0] = 0
    return mask[None, None]


def visual_tokens(model: EPALM, features: Tensor, text_step: int, stop: int) -> dict[int, Tensor]:
    """Injected layer -> its visual token (1, 1, H), for one image's features (L, D)."""
    maps = model.connectors.maps
    if len(maps) == 1:  # the variants in this file inject only the last feature
        return {layer: maps[0](features[-1])[None, None] for layer in injected(text_step, stop)}
    step = (stop - FIRST) // FEATURES
    feature_of_layer = {
        layer: min((layer - FIRST) // step, FEATURES - 1) for layer in injected(text_step, stop)
    }
    return {
        layer: maps[index](features[index])[None, None]  # type: ignore[operator]
        for layer, index in feature_of_layer.items()
    }


def injected(text_step: int, stop: int) -> list[int]:
    return [layer for layer in range(FIRST, stop) if layer % text_step == 0]


def layer_0_input(model: EPALM, stock: OPTForCausalLM, ids: Tensor) -> Tensor:
    """Hidden states (1, P + T, H) that enter layer 0."""
    decoder = stock.model.decoder
    hidden = decoder.embed_tokens(ids)
    if isinstance(model.prompt, SoftPrompt):
        hidden = torch.cat([model.prompt(), hidden])
    if decoder.project_in is not None:
        hidden = decoder.project_in(hidden)
    positions = decoder.embed_positions.weight[2 : 2 + len(ids)]
    hidden = torch.cat([hidden[: -len(ids)], hidden[-len(ids) :] + positions])
    if isinstance(model.prompt, DeepPrompt):
        hidden = torch.cat([model.prompt(0), hidden])
    return hidden[None]


@torch.no_grad()
def plain_logits(
    model: EPALM, features: Tensor, ids: Tensor, tail: str, *, text_step: int
) -> Tensor:
    """Logits (T, vocabulary) for one image's features (L, D) and ids (T)."""
    stock = OPTForCausalLM(copy.deepcopy(model.language_model.config)).eval()
    stock.load_state_dict(model.language_model.state_dict())
    stock.set_attn_implementation("eager")
    decoder = stock.model.decoder
    stop = LAYERS if tail == "to-end" else STOP
    visual = visual_tokens(model, features, text_step, stop)
    hidden, visual_count = layer_0_input(model, stock, ids), 0
    for index, layer in enumerate(decoder.layers):
        if tail == "drop" and index == STOP:
            hidden, visual_count = hidden[:, 1:], 0
        if index in visual:
            hidden, visual_count = torch.cat([visual[index], hidden[:, visual_count:]], dim=1), 1
        if isinstance(model.prompt, DeepPrompt):
            hidden[:, visual_count : visual_count + PROMPT] = model.prompt(index)
        sees_all = tail == "official" and visual_count == 1
        mask = additive_mask(hidden.shape[1], first_sees_all=sees_all)
        hidden = layer(hidden, attention_mask=mask)
    states = hidden[0, -len(ids) :]
    for part in (decoder.final_layer_norm, decoder.project_out):
        states = states if part is None else part(states)
    logits: Tensor = stock.lm_head(states)
    return logits


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("text_step", [1, 2])
@pytest.mark.parametrize("tail", TAILS)
def test_logits_equal_those_of_the_plain_computation(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: Tail, text_step: int, variant: str
) -> None:
    model = build(lm, variant, tail, text_step)
    with torch.no_grad():
        states = model.last_hidden_states(features, ids, torch.ones_like(ids))
        logits = model.logits(states).view(*ids.shape, -1)
    for row in range(len(ids)):
        expected = plain_logits(model, features[row], ids[row], tail, text_step=text_step)
        assert torch.allclose(logits[row], expected, atol=2e-5)


def test_tails_and_text_steps_give_different_logits(features: Tensor, ids: Tensor) -> None:
    """Otherwise the comparisons above could not distinguish them."""
    model = build(tiny_opt(layers=LAYERS), "full", "causal", 1)
    settings = [(tail, step) for tail in TAILS for step in (1, 2)]
    logits = [
        plain_logits(model, features[0], ids[0], tail, text_step=step) for tail, step in settings
    ]
    for first in range(len(settings)):
        for second in range(first):
            assert (logits[first] - logits[second]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", [*VARIANTS, "l19-31+adapter"])
@pytest.mark.parametrize(
    ("tail", "text_step"),
    [("causal", 1), ("causal", 2), ("drop", 1), ("drop", 2), ("official", 1), ("to-end", 2)],
)
def test_a_left_padded_batch_generates_the_same_as_recomputing_single_texts(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: Tail, text_step: int, variant: str
) -> None:
    lm.config.eos_token_id = None
    stop = LAYERS - 1 if tail == "official" else STOP  # its cache works for a single layer
    model = build(lm, variant, tail, text_step, stop=stop)
    padded, mask = ids.clone(), torch.ones_like(ids)
    padded[1], mask[1, :2] = torch.cat([torch.tensor([1, 1]), ids[1, :4]]), 0
    generated = generate(model, features, padded, mask, Decoding(4, 1))
    for row, text in enumerate((ids[:1], ids[1:, :4])):
        for _ in range(4):
            with torch.no_grad():
                states = model.last_hidden_states(
                    features[row : row + 1], text, torch.ones_like(text)
                )
                best = model.logits(states[-1:]).argmax(-1)
            text = torch.cat([text, best[None]], dim=1)
        assert generated[row].tolist() == text[0, -4:].tolist()
