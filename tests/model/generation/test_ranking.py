"""Closed-vocabulary evaluation against scoring every answer of the list separately."""

import pytest
import torch
from torch import Tensor
from transformers import OPTForCausalLM

from epalm.errors import ModelError, UsageError
from epalm.model.engine.language_model import load_config
from epalm.model.engine.model_batch import Batch, collate_texts
from epalm.model.epalm import EPALM
from epalm.model.generation import ranking
from epalm.model.generation.answer_scores import Scorer
from epalm.model.generation.batched_generation import GenerationBatch
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.generation.ranking import AnswerList, Ranker, rank, score_all
from epalm.model.method.injection import Tail
from epalm.model.method.model_settings import Template
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer
from tests.fakes import save_language_model
from tests.model.helpers import tiny_epalm, tiny_opt

END = 2
LENGTHS = (7, 3, 5)
IMAGE_INDEX = torch.tensor([1, 0, 1])


@pytest.fixture(
    params=[
        pytest.param({"pre_norm": True}, id="pre-LN"),
        pytest.param({"pre_norm": False, "projected": True}, id="post-LN"),
    ]
)
def lm(request: pytest.FixtureRequest) -> OPTForCausalLM:
    return tiny_opt(**request.param)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def prompts() -> list[list[int]]:
    drawn = torch.randint(4, 60, (len(LENGTHS), 7), generator=torch.Generator().manual_seed(6))
    return [[END, *row[1:length].tolist()] for row, length in zip(drawn, LENGTHS, strict=True)]


@pytest.fixture
def answers() -> AnswerList:
    """Answers of one to four tokens, with shared beginnings that can be answers themselves."""
    singles = [(token,) for token in range(20, 26)]
    shared = [(5,), (5, 6), (5, 6, 7), (5, 6, 8), (9, 5), (10, 11, 12, 13), (10, 11), (10, 12)]
    listed = [*singles, *shared]
    return AnswerList.from_token_ids({(*ids, END): " ".join(map(str, ids)) for ids in listed})


def left_padded(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[1] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return ids, mask


def token_lists(answers: AnswerList) -> list[list[int]]:
    """Each answer's tokens and the end token."""
    pairs = zip(answers.ids, answers.lengths, strict=True)
    return [ids[: int(length) + 1].tolist() for ids, length in pairs]


def losses(model: EPALM, features: Tensor, prompt: list[int], answers: AnswerList) -> list[float]:
    """The training loss of each answer, summed over its tokens and the end token."""
    texts = [(prompt, answer) for answer in token_lists(answers)]
    ids, mask, labels = collate_texts(texts, supervise="answer", pad=1)
    image_index = torch.zeros(len(texts), dtype=torch.long)
    with torch.no_grad():
        values = model(Batch(features[None], ids, mask, labels, image_index)).per_example()
    return list(map(float, values))


def step_losses(
    model: EPALM, features: Tensor, prompt: list[int], answers: AnswerList
) -> list[float]:
    """The losses if each token follows a text that ends before it, as in generation."""
    totals = []
    for answer in token_lists(answers):
        total, text = 0.0, list(prompt)
        for token in answer:
            ids = torch.tensor([text])
            with torch.no_grad():
                states = model.last_hidden_states(features[None], ids, torch.ones_like(ids))
                total -= float(model.logits(states[-1]).log_softmax(-1)[token])
            text.append(token)
        totals.append(total)
    return totals


@pytest.mark.parametrize("first_round", [1, 4])
@pytest.mark.parametrize("tail", ["causal", "drop", "official"])
def test_the_best_answer_and_its_score_equal_those_of_a_plain_loop(
    lm: OPTForCausalLM,
    features: Tensor,
    prompts: list[list[int]],
    answers: AnswerList,
    *,
    tail: Tail,
    first_round: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranking, "FIRST_ROUND_ANSWERS", first_round)
    monkeypatch.setattr(ranking, "BATCH_ANSWERS", 5)
    model = tiny_epalm(lm, tail=tail)
    cache = PrefixCache.from_features(model, features)
    indices, scores = rank(model, cache, *left_padded(prompts), answers, image_index=IMAGE_INDEX)
    plain = step_losses if tail == "official" else losses
    for row, prompt in enumerate(prompts):
        expected = plain(model, features[IMAGE_INDEX[row]], prompt, answers)
        assert int(indices[row]) == min(range(len(expected)), key=expected.__getitem__)
        assert float(scores[row]) == pytest.approx(-min(expected), abs=1e-4)
    assert len(set(scores.tolist())) == len(prompts)


def test_an_empty_answer_is_ranked_too(features: Tensor, prompts: list[list[int]]) -> None:
    model = tiny_epalm(tiny_opt())
    answers = AnswerList.from_token_ids({(5, END): "5", (END,): "", (6, END): "6"})
    cache = PrefixCache.from_features(model, features)
    indices, scores = rank(model, cache, *left_padded(prompts), answers, image_index=IMAGE_INDEX)
    for row, prompt in enumerate(prompts):
        expected = losses(model, features[IMAGE_INDEX[row]], prompt, answers)
        assert int(indices[row]) == min(range(3), key=expected.__getitem__)
        assert float(scores[row]) == pytest.approx(-min(expected), abs=1e-4)
    assert 1 in indices


def test_a_prompt_has_the_same_ranking_with_and_without_padding(
    features: Tensor, prompts: list[list[int]], answers: AnswerList
) -> None:
    model = tiny_epalm(tiny_opt())
    cache = PrefixCache.from_features(model, features)
    together = rank(model, cache, *left_padded(prompts), answers, image_index=IMAGE_INDEX)
    for row, prompt in enumerate(prompts):
        single = slice(row, row + 1)
        alone = rank(model, cache, *left_padded([prompt]), answers, image_index=IMAGE_INDEX[single])
        assert alone[0].tolist() == together[0][single].tolist()
        assert torch.allclose(alone[1], together[1][single], atol=1e-5)


def test_answers_that_cannot_win_are_not_scored(
    features: Tensor, prompts: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny_opt()
    torch.nn.init.constant_(lm.model.decoder.final_layer_norm.bias, 1)
    torch.nn.init.constant_(lm.lm_head.weight[END], 0.5)  # every answer ends after its first token
    model = tiny_epalm(lm)
    answers = AnswerList.from_token_ids({(token, END): str(token) for token in range(3, 60)})
    sizes: list[int] = []

    def counting_extend_cache(model: EPALM, cache: PrefixCache, ids: Tensor) -> Tensor:
        sizes.append(len(ids))
        return extend_cache(model, cache, ids)

    extend_cache = ranking.extend_cache
    monkeypatch.setattr(ranking, "extend_cache", counting_extend_cache)
    cache = PrefixCache.from_features(model, features)
    indices, _ = rank(model, cache, *left_padded(prompts), answers, image_index=IMAGE_INDEX)
    assert sum(sizes[1:]) < len(prompts) * len(answers.texts) / 4
    for row, prompt in enumerate(prompts):
        expected = losses(model, features[IMAGE_INDEX[row]], prompt, answers)
        assert int(indices[row]) == min(range(len(expected)), key=expected.__getitem__)


def test_a_ranker_returns_texts_of_the_list(
    features: Tensor, prompts: list[list[int]], answers: AnswerList
) -> None:
    model = tiny_epalm(tiny_opt())
    ids, mask = left_padded(prompts)
    cache = PrefixCache.from_features(model, features)
    indices, scores = rank(model, cache, ids, mask, answers, image_index=IMAGE_INDEX)
    best = Ranker(answers)(model, GenerationBatch(cache, IMAGE_INDEX, ids, mask, ["a", "b", "c"]))
    assert [answer.text for answer in best] == [answers.texts[index] for index in indices.tolist()]
    assert [answer.log_probability for answer in best] == scores.tolist()
    assert [answer.tokens for answer in best] == [
        len(answers.ids[index].nonzero()) for index in indices.tolist()
    ]


def test_answers_are_encoded_as_in_training_without_duplicates(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = save_language_model(tmp_path_factory.mktemp("lm") / "lm", ["red", "lamp", "two"])
    tokenizer, config = load_tokenizer(str(folder)), load_config(str(folder), "fp32")
    text = TextEncoder.create(tokenizer, Template("{answer}"), config)
    answers = AnswerList.encode(text, ["red lamp", "two", "red  lamp"])
    assert answers.texts == ("red lamp", "two")
    assert answers.ids.tolist() == [[4, 5, 2], [6, 2, 0]]
    assert answers.nodes.tolist() == [[0, 1, 2], [0, 3, -1]]
    with pytest.raises(UsageError, match="list of answers is empty"):
        AnswerList.encode(text, [])


def test_answers_that_exceed_the_position_table_are_rejected(features: Tensor) -> None:
    model = tiny_epalm(tiny_opt())
    answers = AnswerList.from_token_ids({(*[5] * 60, END): "long"})
    cache = PrefixCache.from_features(model, features)
    with pytest.raises(ModelError, match="60 new ones exceed"):
        rank(model, cache, *left_padded([[2, 5, 6, 7, 8]]), answers, image_index=IMAGE_INDEX[:1])


def test_the_longest_answer_of_a_list_is_named() -> None:
    answers = AnswerList.from_token_ids({(5, END): "a", (5, 6, 7, END): "a b c", (6, END): "b"})
    limit = Ranker(answers).limit
    assert limit.tokens == 3
    assert limit.label == "'a b c', the list's longest"


@pytest.mark.parametrize("tail", ["causal", "official"])
def test_the_scores_of_all_answers_equal_those_of_a_plain_loop(
    lm: OPTForCausalLM,
    features: Tensor,
    prompts: list[list[int]],
    *,
    tail: Tail,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ranking, "BATCH_ANSWERS", 5)
    listed = {(20,): "20", (): "", (5,): "5", (5, 6, 7): "5 6 7", (5, 6, 8): "5 6 8", (9, 5): "9 5"}
    some = AnswerList.from_token_ids({(*ids, END): text for ids, text in listed.items()})
    model = tiny_epalm(lm, tail=tail)
    cache = PrefixCache.from_features(model, features)
    scores = score_all(model, cache, *left_padded(prompts), some, image_index=IMAGE_INDEX)
    plain = step_losses if tail == "official" else losses
    for row, prompt in enumerate(prompts):
        expected = [-loss for loss in plain(model, features[IMAGE_INDEX[row]], prompt, some)]
        assert scores[row].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_scorer_keeps_every_score_and_returns_the_best_answer(
    features: Tensor, prompts: list[list[int]], answers: AnswerList
) -> None:
    model = tiny_epalm(tiny_opt())
    cache = PrefixCache.from_features(model, features)
    batch = GenerationBatch(cache, IMAGE_INDEX, *left_padded(prompts), ["a", "b", "c"])
    scorer = Scorer(answers)
    best, ranked = scorer(model, batch), Ranker(answers)(model, batch)
    assert [(one.text, one.tokens) for one in best] == [(one.text, one.tokens) for one in ranked]
    assert list(scorer.found) == ["a", "b", "c"]
    for one, scores in zip(ranked, scorer.found.values(), strict=True):
        assert one.log_probability == pytest.approx(max(scores), abs=1e-5)
        assert one.text == answers.texts[scores.index(max(scores))]
