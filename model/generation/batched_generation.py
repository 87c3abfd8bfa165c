"""Batched answering: one prefix per image, and batches of prompts of similar length."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from epalm.model.engine.length_check import AnswerLimit, check_prompt_lengths
from epalm.model.epalm import EPALM
from epalm.model.families.family import text_positions
from epalm.model.generation.decode import generate_from_cache
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.generation.token_log_probs import BeamRecorder, SingleBeamRecorder
from epalm.model.generation.token_watch import TokenWatch
from epalm.model.method.model_settings import Decoding
from epalm.model.text.text_encoder import TextEncoder

WINDOW_BATCHES = 4
"""Batches whose image prefixes are cached together, to find prompts of similar length: at most
0.4 MB per question for OPT-125M, 3.6 MB for OPT-2.7B in half precision."""


@dataclass(frozen=True)
class Questions:
    """Questions about images.

    Attributes:
        prompts: prompt of each question, empty for captioning.
        ids: id of each question, for messages.
        keys: key of each question's image.
        load_features: function from indices of questions to the stored features of their images,
            (B, L, D).
    """

    prompts: Sequence[str]
    ids: Sequence[str]
    keys: Sequence[str]
    load_features: Callable[[list[int]], Tensor]


@dataclass(frozen=True)
class GenerationBatch:
    """A batch of questions as the model's input.

    Attributes:
        cache: cached prefixes of images.
        image_index: (B) int64, index of each prompt's image in the cache.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        names: unique name of each question.
    """

    cache: PrefixCache
    image_index: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and the model's confidence in it.

    Attributes:
        text: answer without special tokens and without spaces at both ends.
        log_probability: natural logarithm of the probability of the answer's tokens, end token
            included, given image and prompt.
        tokens: number of these tokens.
    """

    text: str
    log_probability: float
    tokens: int


class AnswerStrategy(Protocol):
    """A method of answering questions, by generation or by likelihood."""

    @property
    def limit(self) -> AnswerLimit:
        """The maximum length of an answer."""

    def __call__(self, model: EPALM, batch: GenerationBatch) -> list[Answer]:
        """One answer per question."""


@dataclass(frozen=True)
class Generator:
    """Answers questions by generating text.

    Attributes:
        text: encoder of the texts.
        decoding: decoding settings.
        watch: function from the names of a batch's questions to the watch of their tokens; None for
            none. Not called for beam search, which selects its tokens at the end.
    """

    text: TextEncoder
    decoding: Decoding
    watch: Callable[[Sequence[str]], TokenWatch] | None = None

    @property
    def limit(self) -> AnswerLimit:
        """See `AnswerStrategy`."""
        return generation_limit(self.decoding)

    def __call__(self, model: EPALM, batch: GenerationBatch) -> list[Answer]:
        """The generated text after each prompt."""
        seeds = [zlib.crc32(name.encode(), self.decoding.seed) for name in batch.names]
        ends, beams = self.text.ends, self.decoding.num_beams
        watch = self.watch(batch.names) if self.watch and beams == 1 else None
        one_beam = watch or SingleBeamRecorder(ends)
        recorder = BeamRecorder(ends, beams) if beams > 1 else one_beam
        ids = generate_from_cache(
            model,
            batch.cache,
            batch.input_ids,
            batch.attention_mask,
            self.decoding,
            image_index=batch.image_index,
            seeds=seeds,
            recorder=recorder,
            streamer=watch,
        )
        sums, counts = recorder.sums(ids)
        return list(map(Answer, self.text.decode(ids), sums.tolist(), counts.tolist()))


def most_probable(
    model: EPALM, text: TextEncoder, batch: GenerationBatch, count: int, *, max_new_tokens: int
) -> list[list[Answer]]:
    """The most probable answers that beam search finds for each question.

    Args:
        model: model in eval mode.
        text: encoder of the texts.
        batch: the questions.
        count: number of beams, and the largest number of answers for a question, at least 2.
        max_new_tokens: maximum number of tokens of an answer.

    Returns:
        For each question different texts, the most probable first.
    """
    decoding = Decoding(num_beams=count, max_new_tokens=max_new_tokens)
    recorder = BeamRecorder(text.ends, count)
    ids = generate_from_cache(
        model,
        batch.cache,
        batch.input_ids,
        batch.attention_mask,
        decoding,
        image_index=batch.image_index,
        recorder=recorder,
        returned=count,
    )
    by_rank = []
    for rank in range(count):
        own = ids[rank::count]
        sums, counts = recorder.sums(own)
        by_rank.append(list(map(Answer, text.decode(own), sums.tolist(), counts.tolist())))
    return [_distinct(answers) for answers in zip(*by_rank, strict=True)]


def _distinct(answers: Sequence[Answer]) -> list[Answer]:
    """Different texts, each with its most probable tokens, the most probable first."""
    best: dict[str, Answer] = {}
    for answer in sorted(answers, key=lambda answer: -answer.log_probability):
        best.setdefault(answer.text, answer)
    return list(best.values())


def generation_limit(decoding: Decoding) -> AnswerLimit:
    """The maximum length of generated text."""
    return AnswerLimit(decoding.max_new_tokens, "max_new_tokens", "lower max_new_tokens")


@torch.no_grad()
def answer_questions(
    model: EPALM,
    text: TextEncoder,
    questions: Questions,
    strategy: AnswerStrategy,
    *,
    batch_size: int,
    on_batch: Callable[[int], object],
) -> list[Answer]:
    """An answer to every question, in the order of the questions.

    Args:
        model: model, left in eval mode.
        text: encoder of the texts, as in training.
        questions: all questions.
        strategy: method of answering.
        batch_size: questions per batch.
        on_batch: called with the size of each finished batch.

    Raises:
        ModelError: a prompt with the longest answer exceeds the language model's position table;
            no question is answered then.
    """
    model.eval()
    device = next(model.parameters()).device
    lengths = [len(ids) for ids in text.prompt_ids(questions.prompts)]
    positions = text_positions(model.language_model.config)
    check_prompt_lengths(lengths, questions.ids, strategy.limit, positions=positions)
    answers: dict[int, Answer] = {}
    for window in windows(questions.keys, WINDOW_BATCHES * batch_size):
        question_of_key = {questions.keys[index]: index for index in window}
        features = questions.load_features(list(question_of_key.values()))
        cache = PrefixCache.from_features(model, features.to(device))
        cache_index = {key: index for index, key in enumerate(question_of_key)}
        by_length = sorted(window, key=lengths.__getitem__)
        for start in range(0, len(by_length), batch_size):
            indices = by_length[start : start + batch_size]
            prompts = [questions.prompts[index] for index in indices]
            keys = [questions.keys[index] for index in indices]
            ids, mask = text.collate_prompts(prompts)
            image_index = torch.tensor([cache_index[key] for key in keys])
            names = [f"{key}\n{prompt}" for key, prompt in zip(keys, prompts, strict=True)]
            batch = GenerationBatch(
                cache, image_index.to(device), ids.to(device), mask.to(device), names
            )
            answers.update(zip(indices, strategy(model, batch), strict=True))
            on_batch(len(indices))
    return [answers[index] for index in range(len(lengths))]


def windows(keys: Sequence[str], size: int) -> Iterator[list[int]]:
    """Indices of all questions in parts of equal size, with questions about one image together.

    The number of parts depends only on the number of questions, since processes with sharded
    weights must run the model equally often.
    """
    indices_of_key: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        indices_of_key.setdefault(key, []).append(index)
    order = [index for indices in indices_of_key.values() for index in indices]
    for start in range(0, len(order), size):
        yield order[start : start + size]
