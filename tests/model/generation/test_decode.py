"""Sampling, and batched generation for many questions."""

import math
import zlib
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import TopPLogitsWarper, tokenization_utils_base

from epalm.errors import ModelError, UsageError
from epalm.model.engine.language_model import load_language_model
from epalm.model.engine.packed_attention import Prefix
from epalm.model.epalm import EPALM
from epalm.model.generation import batched_generation
from epalm.model.generation.batched_generation import Answer, Generator, Questions, answer_questions
from epalm.model.generation.decode import GumbelNoise, generate
from epalm.model.method.injection import Tail
from epalm.model.method.model_settings import Decoding, Template
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer
from tests.fakes import save_language_model
from tests.model.helpers import tiny_epalm, tiny_opt

WORDS = ("what", "is", "on", "the", "desk", "wall", "lamp", "cup", "red", "how", "many", "two")
SAMPLING = Decoding(3, do_sample=True, temperature=0.8, top_p=0.9)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def ids() -> Tensor:
    drawn = torch.randint(4, 60, (3, 7), generator=torch.Generator().manual_seed(6))
    drawn[:, 0] = 2
    return drawn


def next_logits(model: EPALM, features: Tensor, ids: Tensor) -> Tensor:
    """Logits (B, vocabulary) of the next token, by full recomputation."""
    with torch.inference_mode():
        states = model.last_hidden_states(features, ids, torch.ones_like(ids))
        return model.logits(states).view(*ids.shape, -1)[:, -1]


@pytest.mark.parametrize("tail", ["causal", "drop", "official"])
def test_cached_sampling_equals_uncached_sampling_with_the_same_seeds(
    features: Tensor, ids: Tensor, tail: Tail
) -> None:
    lm = tiny_opt()
    lm.config.eos_token_id = None
    model = tiny_epalm(lm, tail=tail)
    seeds = [11, 12, 13]
    noise = GumbelNoise(seeds, ids.device)
    text = ids
    for _ in range(4):
        scores = TopPLogitsWarper(0.9)(text, next_logits(model, features, text) / 0.8)
        text = torch.cat([text, noise(text, scores).argmax(-1, keepdim=True)], dim=1)
    decoding = replace(SAMPLING, max_new_tokens=4)
    sampled = generate(model, features, ids, torch.ones_like(ids), decoding, seeds=seeds)
    assert sampled.tolist() == text[:, -4:].tolist()
    greedy = generate(model, features, ids, torch.ones_like(ids), Decoding(4))
    assert sampled.tolist() != greedy.tolist()


def test_tokens_are_sampled_with_the_probabilities_of_the_language_model(
    features: Tensor, ids: Tensor
) -> None:
    model = tiny_epalm(tiny_opt())
    draws, temperature = 2000, 0.7
    repeated, text = features[:1].expand(draws, -1, -1), ids[:1].expand(draws, -1)
    decoding = Decoding(1, do_sample=True, temperature=temperature)
    sampled = generate(model, repeated, text, torch.ones_like(text), decoding, seeds=range(draws))
    counts = Counter(sampled[:, 0].tolist())
    probabilities = (next_logits(model, features[:1], ids[:1])[0] / temperature).softmax(-1)
    likely = [token for token, value in enumerate(probabilities) if float(value) * draws > 5]
    assert len(likely) > 5
    for token in likely:
        mean = draws * float(probabilities[token])
        assert abs(counts[token] - mean) < 5 * math.sqrt(mean * (1 - mean / draws))


def test_top_p_samples_from_the_most_probable_tokens_only(features: Tensor, ids: Tensor) -> None:
    model = tiny_epalm(tiny_opt())
    repeated, text = features[:1].expand(50, -1, -1), ids[:1].expand(50, -1)
    decoding = Decoding(1, do_sample=True, top_p=1e-6)
    sampled = generate(model, repeated, text, torch.ones_like(text), decoding, seeds=range(50))
    best = int(next_logits(model, features[:1], ids[:1])[0].argmax())
    assert set(sampled.flatten().tolist()) == {best}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, expected more than 0"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"do_sample": True, "num_beams": 3}, "sampling needs num_beams 1, found num_beams 3"),
        ({"do_sample": True, "temperature": 0.0}, "temperature is 0"),
        ({"do_sample": True, "temperature": float("nan")}, "temperature is nan"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5, expected at most 1"),
        ({"temperature": 0.5}, "temperature can only be set for sampling"),
    ],
)
def test_invalid_decoding_settings_are_rejected(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Decoding(**settings)  # type: ignore[arg-type]


class World:
    """A model and 24 questions of many lengths about five images."""

    def __init__(self, folder: str) -> None:
        lm = load_language_model(folder, "fp32")
        template = Template("{prompt} {answer}")
        self.text = TextEncoder.create(load_tokenizer(folder), template, lm.config)
        self.tokenizer = self.text.tokenizer
        self.model = tiny_epalm(lm)
        with torch.no_grad():
            for weight in self.model.connectors.parameters():
                weight.mul_(20)  # so that images change the answers
        drawn = torch.Generator().manual_seed(8)
        self.features = torch.randn(5, 2, 8, generator=drawn)
        lengths = torch.randint(1, 9, (24,), generator=drawn).tolist()
        self.prompts = [
            " ".join(WORDS[index] for index in torch.randint(12, (n,), generator=drawn).tolist())
            for n in lengths
        ]
        self.keys = [f"k{3 * index % 5}" for index in range(24)]

    def answer(self, decoding: Decoding, batch_size: int, indices: list[int]) -> list[str]:
        return [answer.text for answer in self.answers(decoding, batch_size, indices)]

    def answers(self, decoding: Decoding, batch_size: int, indices: list[int]) -> list[Answer]:
        questions = Questions(
            [self.prompts[index] for index in indices],
            [f"q{index}" for index in indices],
            [self.keys[index] for index in indices],
            lambda batch: self.features[[int(self.keys[indices[index]][1:]) for index in batch]],
        )
        return answer_questions(
            self.model,
            self.text,
            questions,
            Generator(self.text, decoding),
            batch_size=batch_size,
            on_batch=lambda _: None,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("model") / "lm"
    return World(str(save_language_model(folder, WORDS, layers=4)))


ALL_QUESTIONS = list(range(24))


def test_the_tokenizer_does_not_warn_of_long_texts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.tokenizer, "model_max_length", 4)
    monkeypatch.setattr(tokenization_utils_base.logger, "warning", pytest.fail)
    assert len(world.text.prompt_ids([f"{WORDS[0]} " * 9])[0]) == 10


def test_a_prompt_that_is_too_long_for_an_answer_is_named_before_any_is_generated(
    world: World,
) -> None:
    longest = max(ALL_QUESTIONS, key=lambda index: len(world.prompts[index].split()))
    tokens = 1 + len(world.prompts[longest].split())
    others = [index for index in ALL_QUESTIONS if len(world.prompts[index].split()) < tokens - 1]
    world.answers(Decoding(32 - tokens), 8, [longest])
    with pytest.raises(ModelError, match=rf"'q{longest}' has {tokens} tokens.*\(max_new_tokens\)"):
        world.answers(Decoding(33 - tokens), 8, [*others[:3], longest])


@pytest.mark.parametrize("decoding", [Decoding(3), Decoding(3, 3), SAMPLING])
def test_texts_do_not_depend_on_the_batch_size_or_the_order(
    world: World, decoding: Decoding
) -> None:
    texts = [world.answer(decoding, batch_size, ALL_QUESTIONS) for batch_size in (1, 3, 64)]
    assert texts[0] == texts[1] == texts[2]
    assert world.answer(decoding, 5, ALL_QUESTIONS[::-1]) == texts[0][::-1]
    assert len(set(texts[0])) > 5


def test_texts_equal_those_of_single_questions(world: World) -> None:
    answers = world.answer(Decoding(3), 8, ALL_QUESTIONS)
    for index in range(0, 24, 3):
        ids, mask = world.text.collate_prompts([world.prompts[index]])
        features = world.features[int(world.keys[index][1:])][None]
        new = generate(world.model, features, ids, mask, Decoding(3))
        assert answers[index] == world.tokenizer.decode(new[0], skip_special_tokens=True).strip()


@pytest.mark.parametrize("end_tokens", [1, 2])
@pytest.mark.parametrize(
    "decoding", [Decoding(6), replace(SAMPLING, max_new_tokens=6), Decoding(6, 2), Decoding(6, 4)]
)
def test_an_answers_log_probability_is_the_sum_over_its_tokens_up_to_the_end_token(
    world: World, decoding: Decoding, end_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Counter(text.split()[1] for text in world.answer(decoding, 8, ALL_QUESTIONS))
    common = [word for word, _ in words.most_common(end_tokens)]
    ends = [int(number) for number in world.tokenizer.convert_tokens_to_ids(common)]
    monkeypatch.setattr(world.model.language_model.config, "eos_token_id", ends)
    monkeypatch.setattr(world, "text", replace(world.text, ends=tuple(ends)))
    answers = world.answers(decoding, 8, ALL_QUESTIONS)
    for index in range(0, 24, 3):
        ids, mask = world.text.collate_prompts([world.prompts[index]])
        features = world.features[int(world.keys[index][1:])][None]
        name = f"{world.keys[index]}\n{world.prompts[index]}"
        seeds = [zlib.crc32(name.encode(), decoding.seed)]
        new = generate(world.model, features, ids, mask, decoding, seeds=seeds)[0].tolist()
        places = [place for place, token in enumerate(new) if token in ends]
        tokens = new[: places[0] + 1] if places else new
        total = 0.0
        for token in tokens:
            total += float(next_logits(world.model, features, ids).log_softmax(-1)[0, token])
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        assert answers[index].log_probability == pytest.approx(total, abs=1e-4)
        assert answers[index].tokens == len(tokens)
    assert len({answer.tokens for answer in answers}) > 1  # some texts end early


def test_the_same_seed_samples_the_same_texts_and_another_seed_others(world: World) -> None:
    first = world.answer(SAMPLING, 8, ALL_QUESTIONS)
    assert world.answer(SAMPLING, 8, ALL_QUESTIONS) == first
    assert world.answer(replace(SAMPLING, seed=1), 8, ALL_QUESTIONS) != first


def test_the_prefix_of_an_image_is_computed_once_for_all_questions_in_a_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def counting_prefix(features: Tensor) -> Prefix:
        sizes.append(len(features))
        return prefix(features)

    prefix = world.model.prefix
    monkeypatch.setattr(world.model, "prefix", counting_prefix)
    texts = world.answer(Decoding(3), 4, ALL_QUESTIONS)
    assert sizes == [4, 2]  # 16 questions about k0, k3, k1 and k4, 8 about k4 and k2
    monkeypatch.setattr(batched_generation, "WINDOW_BATCHES", 24)
    assert world.answer(Decoding(3), 1, ALL_QUESTIONS) == texts
    assert sizes[2:] == [5]
