"""Answers to many questions: each picture's prefix is made once, prompts of like length meet."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.model.engine.length_check import AnswerLimit, check_prompts
from epalm.model.engine.model_batch import collate_prompts, prompt_ids
from epalm.model.epalm import EPALM
from epalm.model.generation.decode import generate_from_cache
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.generation.token_log_probs import ChosenBeams, ChosenTokens
from epalm.model.method.model_settings import Decoding, Template

WINDOW = 4
"""Batches whose pictures' prefixes are kept together, so that prompts of like length can be found:
at most 0.4 MB a question for OPT-125M, 3.6 MB for OPT-2.7B in half precision."""


@dataclass(frozen=True)
class Questions:
    """What is asked.

    Attributes:
        prompts: empty for captioning.
        ids: of the questions, for messages.
        keys: of the picture that each is about.
        read: places among the prompts -> stored vectors of their pictures (B, L, D).
    """

    prompts: Sequence[str]
    ids: Sequence[str]
    keys: Sequence[str]
    read: Callable[[list[int]], Tensor]


@dataclass(frozen=True)
class GenerationBatch:
    """Some questions as the model takes them.

    Attributes:
        cache: of pictures.
        pictures: (B) int64, the cache's row of each prompt.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        names: of the questions: text that tells each from all others.
    """

    cache: PrefixCache
    pictures: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and how sure the model was of it.

    Attributes:
        text: without special tokens and outer blanks.
        log_probability: natural logarithm of the probability that the model gives the answer's
            tokens, end token included, after picture and prompt.
        tokens: how many tokens that is the sum over.
    """

    text: str
    log_probability: float
    tokens: int


class AnswerStrategy(Protocol):
    """A way to answer."""

    @property
    def longest(self) -> AnswerLimit:
        """What it adds to a prompt at most."""

    def __call__(self, model: EPALM, asked: GenerationBatch) -> list[Answer]:
        """One answer per question."""


@dataclass(frozen=True)
class Generator:
    """Answers by generating text.

    Attributes:
        tokenizer: with the answer separator added if the template uses it.
        decoding: how.
    """

    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding

    @property
    def longest(self) -> AnswerLimit:
        """See `AnswerStrategy`."""
        return longest_text(self.decoding)

    def __call__(self, model: EPALM, asked: GenerationBatch) -> list[Answer]:
        """The text that follows each prompt."""
        seeds = [zlib.crc32(name.encode(), self.decoding.seed) for name in asked.names]
        end = model.language_model.config.eos_token_id
        assert isinstance(end, int)  # OPT has one
        beams = self.decoding.num_beams
        witness = ChosenBeams(end, beams) if beams > 1 else ChosenTokens(end)
        ids = generate_from_cache(
            model,
            asked.cache,
            asked.input_ids,
            asked.attention_mask,
            self.decoding,
            pictures=asked.pictures,
            seeds=seeds,
            witness=witness,
        )
        texts = [
            text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        ]
        sums, counts = witness.sums(ids)
        return list(map(Answer, texts, sums.tolist(), counts.tolist()))


def longest_text(decoding: Decoding) -> AnswerLimit:
    """What generated text adds to a prompt at most."""
    return AnswerLimit(decoding.max_new_tokens, "max_new_tokens", "lower max_new_tokens")


@torch.no_grad()
def answer_all(
    model: EPALM,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    questions: Questions,
    answer: AnswerStrategy,
    *,
    batch_size: int,
    tick: Callable[[int], object],
) -> list[Answer]:
    """An answer to every question, in their order.

    Args:
        model: left in eval mode.
        tokenizer: see `Generator`.
        template: how prompts were written in training.
        questions: all of them.
        answer: how.
        batch_size: questions per batch.
        tick: called with the size of each finished batch.

    Raises:
        ModelError: a prompt and the longest answer would outgrow the language model's position
            table; nothing is answered.
    """
    model.eval()
    device = next(model.parameters()).device
    lengths = [len(ids) for ids in prompt_ids(tokenizer, template, questions.prompts)]
    positions = model.language_model.config.max_position_embeddings
    check_prompts(lengths, questions.ids, answer.longest, positions=positions)
    answers: dict[int, Answer] = {}
    for window in windows(questions.keys, WINDOW * batch_size):
        some = {questions.keys[place]: place for place in window}
        vectors = questions.read(list(some.values()))
        cache = PrefixCache.of_pictures(model, vectors.to(device))
        rows = {key: row for row, key in enumerate(some)}
        places = sorted(window, key=lengths.__getitem__)
        for start in range(0, len(places), batch_size):
            batch = places[start : start + batch_size]
            prompts = [questions.prompts[place] for place in batch]
            keys = [questions.keys[place] for place in batch]
            ids, mask = collate_prompts(tokenizer, template, prompts)
            pictures = torch.tensor([rows[key] for key in keys])
            names = [f"{key}\n{prompt}" for key, prompt in zip(keys, prompts, strict=True)]
            asked = GenerationBatch(
                cache, pictures.to(device), ids.to(device), mask.to(device), names
            )
            for place, found in zip(batch, answer(model, asked), strict=True):
                answers[place] = found
            tick(len(batch))
    return [answers[place] for place in range(len(lengths))]


def windows(keys: Sequence[str], size: int) -> Iterator[list[int]]:
    """The places of all questions, those about one picture together, in parts of equal size.

    How many parts there are depends on the number of questions alone: processes that share the
    weights have to run the model equally often.
    """
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    order = [place for group in places.values() for place in group]
    for start in range(0, len(order), size):
        yield order[start : start + size]
