"""Every tail, text step and prompt against a plain computation: one sample, one sequence, no rows.

Stock OPT layers with eager attention get the whole sequence [visual | prompt | text] and an
additive mask; which vector goes where is written out here anew from the method's description.
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

LAYERS, FIRST, STOP, VECTORS, PROMPT = 9, 1, 7, 3, 3
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
def tokens() -> Tensor:
    return torch.randn(2, VECTORS, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def ids() -> Tensor:
    drawn = torch.randint(4, 60, (2, 6), generator=torch.Generator().manual_seed(6))
    drawn[:, 0] = 2
    return drawn


def build(
    lm: OPTForCausalLM, variant: str, tail: str, text_step: int, *, stop: int = STOP
) -> EPALM:
    span = f"{FIRST}:{stop}"
    return tiny_variant(lm, variant, cached=VECTORS, inject=span, tail=tail, text_step=text_step)


def additive_mask(length: int, *, first_row_sees_all: bool) -> Tensor:
    """(1, 1, S, S): 0 where a row sees a column, else the lowest float."""
    mask = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
    if first_row_sees_all:
        mask[0] = 0
    return mask[None, None]


def visual_vectors(model: EPALM, tokens: Tensor, text_step: int, stop: int) -> dict[int, Tensor]:
    """Layer -> what row 0 is overwritten with, (1, 1, H), for one sample's vectors (L, D)."""
    maps = model.connectors.maps
    if len(maps) == 1:  # the variants of this file inject the last vector only
        return {layer: maps[0](tokens[-1])[None, None] for layer in injected(text_step, stop)}
    step = (stop - FIRST) // VECTORS
    chosen = {
        layer: min((layer - FIRST) // step, VECTORS - 1) for layer in injected(text_step, stop)
    }
    return {layer: maps[c](tokens[c])[None, None] for layer, c in chosen.items()}  # type: ignore[operator]


def injected(text_step: int, stop: int) -> list[int]:
    return [layer for layer in range(FIRST, stop) if layer % text_step == 0]


def prompted(model: EPALM, stock: OPTForCausalLM, ids: Tensor) -> Tensor:
    """(1, P + T, H): what enters layer 0."""
    decoder = stock.model.decoder
    rows = decoder.embed_tokens(ids)
    if isinstance(model.prompt, SoftPrompt):
        rows = torch.cat([model.prompt(), rows])
    if decoder.project_in is not None:
        rows = decoder.project_in(rows)
    places = decoder.embed_positions.weight[2 : 2 + len(ids)]
    rows = torch.cat([rows[: -len(ids)], rows[-len(ids) :] + places])
    if isinstance(model.prompt, DeepPrompt):
        rows = torch.cat([model.prompt(0), rows])
    return rows[None]


@torch.no_grad()
def plain_logits(model: EPALM, tokens: Tensor, ids: Tensor, tail: str, *, text_step: int) -> Tensor:
    """(T, vocabulary) for one sample's vectors (L, D) and ids (T)."""
    stock = OPTForCausalLM(copy.deepcopy(model.language_model.config)).eval()
    stock.load_state_dict(model.language_model.state_dict())
    stock.set_attn_implementation("eager")
    decoder = stock.model.decoder
    stop = LAYERS if tail == "to-end" else STOP
    visual = visual_vectors(model, tokens, text_step, stop)
    hidden, has_visual = prompted(model, stock, ids), 0
    for index, layer in enumerate(decoder.layers):
        if tail == "drop" and index == STOP:
            hidden, has_visual = hidden[:, 1:], 0
        if index in visual:
            hidden, has_visual = torch.cat([visual[index], hidden[:, has_visual:]], dim=1), 1
        if isinstance(model.prompt, DeepPrompt):
            hidden[:, has_visual : has_visual + PROMPT] = model.prompt(index)
        sees_all = tail == "official" and has_visual == 1
        mask = additive_mask(hidden.shape[1], first_row_sees_all=sees_all)
        hidden = layer(hidden, attention_mask=mask)
    states = hidden[0, -len(ids) :]
    for part in (decoder.final_layer_norm, decoder.project_out):
        states = states if part is None else part(states)
    logits: Tensor = stock.lm_head(states)
    return logits


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("text_step", [1, 2])
@pytest.mark.parametrize("tail", TAILS)
def test_logits_equal_the_plain_computation(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, tail: Tail, text_step: int, variant: str
) -> None:
    model = build(lm, variant, tail, text_step)
    with torch.no_grad():
        states = model.last_hidden_states(tokens, ids, torch.ones_like(ids))
        found = model.logits(states).view(*ids.shape, -1)
    for row in range(len(ids)):
        wanted = plain_logits(model, tokens[row], ids[row], tail, text_step=text_step)
        assert torch.allclose(found[row], wanted, atol=2e-5)


def test_tails_and_text_steps_differ_where_they_should(tokens: Tensor, ids: Tensor) -> None:
    """Else the comparisons above could not tell them apart."""
    model = build(tiny_opt(layers=LAYERS), "full", "causal", 1)
    settings = [(tail, step) for tail in TAILS for step in (1, 2)]
    logits = [
        plain_logits(model, tokens[0], ids[0], tail, text_step=step) for tail, step in settings
    ]
    for first in range(len(settings)):
        for second in range(first):
            assert (logits[first] - logits[second]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", [*VARIANTS, "l19-31+adapter"])
@pytest.mark.parametrize(
    ("tail", "text_step"),
    [("causal", 1), ("causal", 2), ("drop", 1), ("drop", 2), ("official", 1), ("to-end", 2)],
)
def test_a_left_padded_batch_generates_what_recomputing_single_samples_gives(
    lm: OPTForCausalLM, tokens: Tensor, ids: Tensor, tail: Tail, text_step: int, variant: str
) -> None:
    lm.config.eos_token_id = None
    stop = LAYERS - 1 if tail == "official" else STOP  # it can be cached for one layer only
    model = build(lm, variant, tail, text_step, stop=stop)
    padded, mask = ids.clone(), torch.ones_like(ids)
    padded[1], mask[1, :2] = torch.cat([torch.tensor([1, 1]), ids[1, :4]]), 0
    found = generate(model, tokens, padded, mask, Decoding(4, 1))
    for row, text in enumerate((ids[:1], ids[1:, :4])):
        for _ in range(4):
            with torch.no_grad():
                states = model.last_hidden_states(
                    tokens[row : row + 1], text, torch.ones_like(text)
                )
                best = model.logits(states[-1:]).argmax(-1)
            text = torch.cat([text, best[None]], dim=1)
        assert found[row].tolist() == text[0, -4:].tolist()
