"""Each family's cached generation and ranking equal what its uncached logits give."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from epalm.errors import ModelError
from epalm.model.engine.language_model import freeze
from epalm.model.epalm import EPALM
from epalm.model.generation.decode import extend_cache, generate, generate_from_cache
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.generation.ranking import AnswerList, rank
from epalm.model.method.model_settings import Decoding
from tests.model.families.injected import (
    CASES,
    injected,
    padded,
    some_features,
    some_texts,
    uninjected,
)
from tests.model.families.zoo import NAMES, SMALL_DIFFERENCE, own_model, shared_model, stock_model
from tests.model.helpers import text_logits

END = 2


def without_end(name: str, case: str) -> EPALM:
    """A model that never ends a text."""
    lm = shared_model(name)
    lm.config.eos_token_id = None
    return injected(lm, case)


def last_logits(model: EPALM, features: Tensor, text: Tensor) -> Tensor:
    """(4, vocabulary) logits after all but the last three tokens, after all but two, ..."""
    if not model.plan.visual_sees_all:
        return text_logits(model, features, text[None])[0, -4:]
    lengths = range(len(text) - 3, len(text) + 1)  # the visual token sees the whole text
    seen = [text_logits(model, features, text[None, :length])[0, -1] for length in lengths]
    return torch.stack(seen)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_left_padded_batch_continues_from_the_cache_as_without_one(name: str, case: str) -> None:
    model, texts = injected(shared_model(name), case), some_texts()
    features, image_index = some_features(model, 2), torch.tensor([0, 0, 1])
    ids, mask = padded([text[:-3] for text in texts], "left")
    cache = PrefixCache.from_features(model, features).select(image_index, mask)
    states = [extend_cache(model, cache, ids)[:, -1]]
    for step in (-3, -2, -1):
        token = torch.stack([text[step] for text in texts])[:, None]
        states.append(extend_cache(model, cache, token)[:, -1])
    cached = model.parts.logits(torch.stack(states, dim=1))
    for row, text in enumerate(texts):
        expected = last_logits(model, features[image_index[row], None], text)
        torch.testing.assert_close(cached[row], expected, rtol=0, atol=SMALL_DIFFERENCE)


def uncached_greedy(model: EPALM, features: Tensor, text: Tensor, count: int) -> list[int]:
    """The most probable next tokens, from the logits of the whole text each time."""
    for _ in range(count):
        text = pad(
            text, (0, 1), value=int(text_logits(model, features, text[None])[0, -1].argmax())
        )
    return text[-count:].tolist()


@pytest.mark.parametrize("case", ["causal tail, soft prompt", "official tail"])
@pytest.mark.parametrize("name", NAMES)
def test_greedy_search_of_a_left_padded_batch_equals_single_uncached_texts(
    name: str, case: str
) -> None:
    model, texts = without_end(name, case), some_texts()
    features = some_features(model, 3)
    ids, mask = padded(texts, "left")
    generated = generate(model, features, ids, mask, Decoding(max_new_tokens=4))
    for row, text in enumerate(texts):
        assert generated[row].tolist() == uncached_greedy(model, features[row, None], text, 4)


@pytest.mark.parametrize("name", NAMES)
def test_three_beams_without_injection_equal_stock_generation(name: str) -> None:
    model = uninjected(shared_model(name))
    model.language_model.config.eos_token_id = None
    ids, mask = padded(some_texts(), "left")
    decoding = Decoding(max_new_tokens=6, num_beams=3)
    generated = generate(model, some_features(model, 3), ids, mask, decoding)
    stock = stock_model(name)
    expected = stock.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=6, num_beams=3, do_sample=False,
        eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    assert generated.tolist() == expected[:, ids.shape[1] :].tolist()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_the_score_of_a_ranked_answer_is_its_log_likelihood(name: str) -> None:
    model, texts = injected(shared_model(name), "causal tail, soft prompt"), some_texts()
    features = some_features(model, 3)
    answers = {(5, 6, END): "a", (5, END): "b", (7, 8, 9, END): "c", (10, END): "d"}
    ids, mask = padded(texts, "left")
    best, scores = rank(
        model, PrefixCache.from_features(model, features), ids, mask,
        AnswerList.from_token_ids(answers), image_index=torch.arange(3),
    )  # fmt: skip
    for row, text in enumerate(texts):
        likelihoods = []
        for answer in answers:
            whole = torch.cat([text, torch.tensor(answer)])[None]
            log_probs = text_logits(model, features[row, None], whole)[0].log_softmax(-1)
            steps = log_probs[len(text) - 1 : -1]
            likelihoods.append(float(steps.gather(1, torch.tensor(answer)[:, None]).sum()))
        assert int(best[row]) == max(range(len(answers)), key=likelihoods.__getitem__)
        assert float(scores[row]) == pytest.approx(max(likelihoods), abs=1e-4)


def test_generation_settings_of_the_language_model_do_not_change_decoding() -> None:
    text = some_texts()[0][None]
    texts = []
    for penalty in (1.0, 5.0):
        lm = own_model("llama-grouped")
        lm.config.eos_token_id = None
        stock_settings = lm.generation_config
        stock_settings.repetition_penalty = penalty
        model = uninjected(freeze(lm))
        features = some_features(model, 1)
        texts.append(generate(model, features, text, torch.ones_like(text), Decoding(8)).tolist())
    assert texts[0] == texts[1]
    lm.generation_config.repetition_penalty = 5.0
    changed = generate(model, features, text, torch.ones_like(text), Decoding(8)).tolist()
    assert changed != texts[0]


def test_texts_of_a_longrope_model_keep_to_the_length_of_its_pretraining() -> None:
    model = uninjected(shared_model("phi3-longrope"))
    ids = torch.full((1, 30), 5)
    cache = PrefixCache.from_features(model, some_features(model, 1))
    with pytest.raises(ModelError, match="exceed the language model's 32 positions"):
        generate_from_cache(
            model, cache, ids, torch.ones_like(ids), Decoding(3), image_index=torch.tensor([0])
        )
