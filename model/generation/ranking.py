"""Closed-vocabulary evaluation by log-likelihood: the most probable answer of a list.

An answer's score is the log-probability of its tokens, end token included, given image and prompt.
The result is exact, but most answers need not be scored to their end: a score only falls with each
further token, so an answer whose first tokens are less probable than another whole answer cannot
win. The most promising answers are scored first, until no other can win. Constrained beam search
(`prefix_allowed_tokens_fn`) would score fewer answers but loses those whose first token is not
among the beams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from epalm.errors import UsageError
from epalm.model.engine.length_check import AnswerLimit, excerpt
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import Answer, GenerationBatch
from epalm.model.generation.decode import check_positions, extend_cache
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.text.text_encoder import TextEncoder

FIRST_ROUND_ANSWERS = 4
"""Answers per question that are scored in the first round; each round scores twice as many."""

BATCH_ANSWERS = 256
"""Answers scored in one batch: their logits take 51 MB in float32 with OPT's 50,272 words."""


@dataclass(frozen=True)
class AnswerList:
    """A closed vocabulary of answers, as tokens and as a prefix tree.

    Attributes:
        texts: A different answers.
        ids: (A, K + 1) int64, tokens and end token, padded with zeros.
        lengths: (A) int64, number of tokens before the end token.
        nodes: (A, K + 1) int64, for each token the node of the prefix tree that all answers with
            the same tokens up to here share; -1 after the last token.
    """

    texts: tuple[str, ...]
    ids: Tensor
    lengths: Tensor
    nodes: Tensor

    @classmethod
    def encode(cls, text: TextEncoder, texts: Sequence[str]) -> "AnswerList":
        """Tokenize answers as in training; of answers with equal tokens, the first one is kept.

        Raises:
            UsageError: the list is empty.
        """
        answers: dict[tuple[int, ...], str] = {}
        for ids, answer in zip(text.answer_ids(texts), texts, strict=True):
            answers.setdefault(tuple(ids), answer)
        if not answers:
            raise UsageError("the list of answers is empty: expected one answer per line")
        return cls.from_token_ids(answers)

    @classmethod
    def from_token_ids(cls, answers: Mapping[tuple[int, ...], str]) -> "AnswerList":
        """The list from a mapping of token ids, end token included, to texts."""
        node_of_prefix: dict[tuple[int, ...], int] = {}
        width = max(map(len, answers))
        ids = torch.zeros(len(answers), width, dtype=torch.long)
        nodes = torch.full((len(answers), width), -1)
        for index, answer in enumerate(answers):
            ids[index, : len(answer)] = torch.tensor(answer)
            for count in range(len(answer)):
                prefix = answer[:count]
                nodes[index, count] = node_of_prefix.setdefault(prefix, len(node_of_prefix))
        lengths = torch.tensor([len(answer) - 1 for answer in answers])
        return cls(tuple(answers.values()), ids, lengths, nodes)

    def to(self, device: torch.device) -> "AnswerList":
        """The same list on another device."""
        moved = (tensor.to(device) for tensor in (self.ids, self.lengths, self.nodes))
        return AnswerList(self.texts, *moved)

    def chosen(self, indices: Tensor, scores: Tensor) -> list[Answer]:
        """The answers at (B) indices, with their (B) scores; the end token counts."""
        return [
            Answer(self.texts[index], score, int(self.lengths[index]) + 1)
            for index, score in zip(indices.tolist(), scores.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class Ranker:
    """Answers questions with the most probable answer of a list."""

    answers: AnswerList

    @property
    def limit(self) -> AnswerLimit:
        """See `AnswerStrategy`."""
        index = int(self.answers.lengths.argmax())
        return AnswerLimit(
            tokens=int(self.answers.lengths[index]),
            label=f"{excerpt(self.answers.texts[index])}, the list's longest",
            remedy="leave that answer out",
        )

    def __call__(self, model: EPALM, batch: GenerationBatch) -> list[Answer]:
        """The best answer to each question."""
        best, scores = rank(
            model,
            batch.cache,
            batch.input_ids,
            batch.attention_mask,
            self.answers,
            image_index=batch.image_index,
        )
        return self.answers.chosen(best, scores)


@torch.no_grad()
def rank(
    model: EPALM,
    cache: PrefixCache,
    input_ids: Tensor,
    attention_mask: Tensor,
    answers: AnswerList,
    *,
    image_index: Tensor,
) -> tuple[Tensor, Tensor]:
    """The most probable answer to each prompt.

    With the tail "official" a token is scored as in generation, where the visual token has attended
    to the text before it; in the training loss the visual token also attends to the scored tokens.

    Args:
        model: model in eval mode.
        cache: cached prefixes of the images.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        answers: the list of answers.
        image_index: (B) int64, index of each prompt's image in `cache`.

    Returns:
        Indices in the list (B) int64 and their scores (B) float32.

    Raises:
        ModelError: a prompt ends in padding, or the text would exceed the language model's
            position table.
    """
    prompts, state = _read_prompts(
        model, cache, input_ids, attention_mask, answers, image_index=image_index
    )
    count = FIRST_ROUND_ANSWERS
    while True:
        questions, candidates = state.candidates(count)
        if not len(questions):
            break
        _score_pairs(model, prompts, state, questions, candidates)
        count *= 2
    scores, indices = state.scores().max(dim=1)
    return indices, scores


@torch.no_grad()
def score_all(
    model: EPALM,
    cache: PrefixCache,
    input_ids: Tensor,
    attention_mask: Tensor,
    answers: AnswerList,
    *,
    image_index: Tensor,
) -> Tensor:
    """The scores of all answers to each prompt, (B, A) float32; arguments and errors as in `rank`.

    The largest one of a prompt is what `rank` finds, which scores fewer answers.
    """
    prompts, state = _read_prompts(
        model, cache, input_ids, attention_mask, answers, image_index=image_index
    )
    questions, candidates = (~state.complete).nonzero(as_tuple=True)
    _score_pairs(model, prompts, state, questions, candidates)
    return state.scores()


@dataclass(frozen=True)
class RankingState:
    """Scores and upper bounds of all answers to each question.

    Attributes:
        answers: the list of answers.
        first: (B, A) float32, log-probability of the first token.
        bounds: (B, A) float32, log-probability of the tokens scored so far, an upper bound of the
            answer's score.
        complete: (B, A) bool, whether all tokens were scored, so that the bound is the score.
    """

    answers: AnswerList
    first: Tensor
    bounds: Tensor
    complete: Tensor

    @classmethod
    def start(cls, first: Tensor, answers: AnswerList) -> "RankingState":
        """The state with only first tokens scored, which completes empty answers."""
        return cls(answers, first, first.clone(), (answers.lengths == 0).repeat(len(first), 1))

    def scores(self) -> Tensor:
        """(B, A) float32, the scores of complete answers, minus infinity for the others."""
        return self.bounds.masked_fill(~self.complete, -torch.inf)

    def candidates(self, count: int) -> tuple[Tensor, Tensor]:
        """(questions, answers) int64: up to `count` answers per question that can still win."""
        best = self.scores().amax(dim=1, keepdim=True)
        excluded = self.complete | (self.bounds <= best)
        open_bounds = self.bounds.masked_fill(excluded, -torch.inf)
        values, answers = open_bounds.topk(min(count, open_bounds.shape[1]), dim=1)
        questions, ranks = values.isfinite().nonzero(as_tuple=True)
        return questions, answers[questions, ranks]


def _read_prompts(
    model: EPALM,
    cache: PrefixCache,
    input_ids: Tensor,
    attention_mask: Tensor,
    answers: AnswerList,
    *,
    image_index: Tensor,
) -> tuple[PrefixCache, RankingState]:
    """The cache of images with prompts, and the state before any answer's second token."""
    check_positions(model, input_ids, attention_mask, int(answers.lengths.max()))
    answers = answers.to(input_ids.device)
    mask = None if bool(attention_mask.all()) else attention_mask
    prompts = cache.select(image_index, mask)
    last = extend_cache(model, prompts, input_ids)[:, -1]
    return prompts, RankingState.start(_log_probs(model, last, answers.ids[:, 0]), answers)


def _score_pairs(
    model: EPALM, prompts: PrefixCache, state: RankingState, questions: Tensor, candidates: Tensor
) -> None:
    """Score answers (N) to questions (N) in batches, the longest ones first."""
    order = state.answers.lengths[candidates].argsort(descending=True)
    for batch in order.split(BATCH_ANSWERS):
        selected = prompts.select(questions[batch])
        _score(model, selected, state, questions[batch], candidates[batch])


def _score(
    model: EPALM,
    cache: PrefixCache,
    state: RankingState,
    questions: Tensor,
    candidates: Tensor,
) -> None:
    """Score answers token by token, and update all answers that share their first tokens.

    Args:
        model: model in eval mode.
        cache: cache of the prompts, one sequence per answer to score; changed in place.
        state: changed in place.
        questions: (N) int64.
        candidates: (N) int64, an answer to each question, the longest ones first.
    """
    answers = state.answers
    totals = state.first[questions]
    for step in range(int(answers.lengths[candidates[0]])):
        count = int((answers.lengths[candidates] > step).sum())
        cache.keep_first(count)
        current = candidates[:count]
        states = extend_cache(model, cache, answers.ids[current, step, None])[:, -1]
        log_probs = _log_probs(model, states, answers.ids[:, step + 1])
        shared = answers.nodes[:, step + 1] == answers.nodes[current, step + 1, None]
        totals[:count] += log_probs.masked_fill(~shared, 0)
        indices, ended = (shared & (answers.lengths == step + 1)).nonzero(as_tuple=True)
        state.complete[questions[indices], ended] = True
    state.bounds.scatter_reduce_(0, questions[:, None].expand_as(totals), totals, "amin")


def _log_probs(model: EPALM, states: Tensor, ids: Tensor) -> Tensor:
    """(N, A) float32 log-probabilities of tokens (A), from the head's input (N, width)."""
    logits = model.parts.logits(states).float()
    return logits[:, ids] - logits.logsumexp(dim=1, keepdim=True)
