"""Ranking a closed list against scoring each of its answers by itself."""

import pytest
import torch
from torch import Tensor
from transformers import OPTForCausalLM

from epalm.errors import ModelError, UsageError
from epalm.model.engine.language_model import load_tokenizer
from epalm.model.engine.model_batch import Batch, collate_texts
from epalm.model.epalm import EPALM
from epalm.model.generation import ranking
from epalm.model.generation.batched_generation import GenerationBatch
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.generation.ranking import AnswerList, Ranker, rank
from epalm.model.method.injection import Tail
from epalm.model.method.model_settings import Template
from tests.fakes import save_language_model
from tests.model.helpers import tiny_epalm, tiny_opt

END = 2
LENGTHS = (7, 3, 5)
PICTURES = torch.tensor([1, 0, 1])


@pytest.fixture(
    params=[
        pytest.param({"pre_norm": True}, id="pre-LN"),
        pytest.param({"pre_norm": False, "projected": True}, id="post-LN"),
    ]
)
def lm(request: pytest.FixtureRequest) -> OPTForCausalLM:
    return tiny_opt(**request.param)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def prompts() -> list[list[int]]:
    drawn = torch.randint(4, 60, (len(LENGTHS), 7), generator=torch.Generator().manual_seed(6))
    return [[END, *row[1:length].tolist()] for row, length in zip(drawn, LENGTHS, strict=True)]


@pytest.fixture
def answers() -> AnswerList:
    """Of one to four tokens, with shared beginnings, some of which are answers themselves."""
    singles = [(token,) for token in range(20, 26)]
    shared = [(5,), (5, 6), (5, 6, 7), (5, 6, 8), (9, 5), (10, 11, 12, 13), (10, 11), (10, 12)]
    listed = [*singles, *shared]
    return AnswerList.from_token_ids({(*ids, END): " ".join(map(str, ids)) for ids in listed})


def left_padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[1] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts])
    return ids, mask


def tokens_of(answers: AnswerList) -> list[list[int]]:
    """Each answer's tokens and the end token."""
    pairs = zip(answers.ids, answers.lengths, strict=True)
    return [ids[: int(length) + 1].tolist() for ids, length in pairs]


def losses(model: EPALM, tokens: Tensor, prompt: list[int], answers: AnswerList) -> list[float]:
    """The training loss of each answer, summed over its tokens and the end token."""
    texts = [(prompt, answer) for answer in tokens_of(answers)]
    ids, mask, labels = collate_texts(texts, supervise="answer", pad=1)
    image_index = torch.zeros(len(texts), dtype=torch.long)
    with torch.no_grad():
        found = model(Batch(tokens[None], ids, mask, labels, image_index)).per_example()
    return list(map(float, found))


def step_losses(
    model: EPALM, tokens: Tensor, prompt: list[int], answers: AnswerList
) -> list[float]:
    """Likewise, but each token is read behind a text that ends before it, as in generation."""
    found = []
    for answer in tokens_of(answers):
        total, text = 0.0, list(prompt)
        for token in answer:
            ids = torch.tensor([text])
            with torch.no_grad():
                states = model.last_hidden_states(tokens[None], ids, torch.ones_like(ids))
                total -= float(model.logits(states[-1]).log_softmax(-1)[token])
            text.append(token)
        found.append(total)
    return found


@pytest.mark.parametrize("first_read", [1, 4])
@pytest.mark.parametrize("tail", ["causal", "drop", "official"])
def test_the_best_answer_and_its_score_are_those_of_a_plain_loop(
    lm: OPTForCausalLM,
    tokens: Tensor,
    prompts: list[list[int]],
    answers: AnswerList,
    *,
    tail: Tail,
    first_read: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranking, "FIRST_ROUND_ANSWERS", first_read)
    monkeypatch.setattr(ranking, "BATCH_ANSWERS", 5)
    model = tiny_epalm(lm, tail=tail)
    cache = PrefixCache.from_features(model, tokens)
    places, scores = rank(model, cache, *left_padded(prompts), answers, image_index=PICTURES)
    plain = step_losses if tail == "official" else losses
    for row, prompt in enumerate(prompts):
        wanted = plain(model, tokens[PICTURES[row]], prompt, answers)
        assert int(places[row]) == min(range(len(wanted)), key=wanted.__getitem__)
        assert float(scores[row]) == pytest.approx(-min(wanted), abs=1e-4)
    assert len(set(scores.tolist())) == len(prompts)


def test_an_empty_answer_is_ranked_too(tokens: Tensor, prompts: list[list[int]]) -> None:
    model = tiny_epalm(tiny_opt())
    answers = AnswerList.from_token_ids({(5, END): "5", (END,): "", (6, END): "6"})
    cache = PrefixCache.from_features(model, tokens)
    places, scores = rank(model, cache, *left_padded(prompts), answers, image_index=PICTURES)
    for row, prompt in enumerate(prompts):
        wanted = losses(model, tokens[PICTURES[row]], prompt, answers)
        assert int(places[row]) == min(range(3), key=wanted.__getitem__)
        assert float(scores[row]) == pytest.approx(-min(wanted), abs=1e-4)
    assert 1 in places


def test_a_prompt_without_padding_is_ranked_as_in_a_padded_batch(
    tokens: Tensor, prompts: list[list[int]], answers: AnswerList
) -> None:
    model = tiny_epalm(tiny_opt())
    cache = PrefixCache.from_features(model, tokens)
    together = rank(model, cache, *left_padded(prompts), answers, image_index=PICTURES)
    for row, prompt in enumerate(prompts):
        one = slice(row, row + 1)
        alone = rank(model, cache, *left_padded([prompt]), answers, image_index=PICTURES[one])
        assert alone[0].tolist() == together[0][one].tolist()
        assert torch.allclose(alone[1], together[1][one], atol=1e-5)


def test_answers_that_cannot_win_are_not_read(
    tokens: Tensor, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny_opt()
    torch.nn.init.constant_(lm.model.decoder.final_layer_norm.bias, 1)
    torch.nn.init.constant_(lm.lm_head.weight[END], 0.5)  # every answer ends after its first token
    model = tiny_epalm(lm)
    answers = AnswerList.from_token_ids({(token, END): str(token) for token in range(3, 60)})
    rows: list[int] = []

    def counted(model: EPALM, cache: PrefixCache, ids: Tensor) -> Tensor:
        rows.append(len(ids))
        return extend_cache(model, cache, ids)

    extend_cache = ranking.extend_cache
    monkeypatch.setattr(ranking, "extend_cache", counted)
    cache = PrefixCache.from_features(model, tokens)
    places, _ = rank(model, cache, *left_padded(prompts), answers, image_index=PICTURES)
    assert sum(rows[1:]) < len(prompts) * len(answers.texts) / 4
    for row, prompt in enumerate(prompts):
        wanted = losses(model, tokens[PICTURES[row]], prompt, answers)
        assert int(places[row]) == min(range(len(wanted)), key=wanted.__getitem__)


def test_a_ranker_answers_with_the_texts_of_the_list(
    tokens: Tensor, prompts: list[list[int]], answers: AnswerList
) -> None:
    model = tiny_epalm(tiny_opt())
    ids, mask = left_padded(prompts)
    cache = PrefixCache.from_features(model, tokens)
    places, scores = rank(model, cache, ids, mask, answers, image_index=PICTURES)
    found = Ranker(answers)(model, GenerationBatch(cache, PICTURES, ids, mask, ["a", "b", "c"]))
    assert [one.text for one in found] == [answers.texts[place] for place in places.tolist()]
    assert [one.log_probability for one in found] == scores.tolist()
    assert [one.tokens for one in found] == [
        len(answers.ids[place].nonzero()) for place in places.tolist()
    ]


def test_answers_are_encoded_as_training_writes_them_each_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = save_language_model(tmp_path_factory.mktemp("lm") / "lm", ["red", "lamp", "two"])
    tokenizer = load_tokenizer(str(folder))
    found = AnswerList.encode(tokenizer, Template("{answer}"), ["red lamp", "two", "red  lamp"])
    assert found.texts == ("red lamp", "two")
    assert found.ids.tolist() == [[4, 5, 2], [6, 2, 0]]
    assert found.nodes.tolist() == [[0, 1, 2], [0, 3, -1]]
    with pytest.raises(UsageError, match="list of answers is empty"):
        AnswerList.encode(tokenizer, Template("{answer}"), [])


def test_answers_that_outgrow_the_position_table_are_refused(tokens: Tensor) -> None:
    model = tiny_epalm(tiny_opt())
    answers = AnswerList.from_token_ids({(*[5] * 60, END): "long"})
    cache = PrefixCache.from_features(model, tokens)
    with pytest.raises(ModelError, match="60 new ones exceed"):
        rank(model, cache, *left_padded([[2, 5, 6, 7, 8]]), answers, image_index=PICTURES[:1])


def test_the_longest_answer_of_a_list_is_named() -> None:
    answers = AnswerList.from_token_ids({(5, END): "a", (5, 6, 7, END): "a b c", (6, END): "b"})
    longest = Ranker(answers).limit
    assert longest.tokens == 3
    assert longest.label == "'a b c', the list's longest"
