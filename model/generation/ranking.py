"""Answers from a closed list, ranked exactly by their probability.

An answer's score is the log-probability of its tokens, end token included, given picture and
prompt. It only falls with each further token, so an answer whose first tokens are less probable
than another whole answer needs no more reading: the most promising answers are read first, until no
other can win. Constrained beam search (`prefix_allowed_tokens_fn`) would read less of the list but
loses answers whose first token is not among the beams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.errors import UsageError
from epalm.model.engine.length_check import AnswerLimit, excerpt
from epalm.model.engine.model_batch import answer_ids
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import Answer, GenerationBatch
from epalm.model.generation.decode import check_room, read_text
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.method.model_settings import Template

FIRST_READ = 4
"""Answers per question that are read in the first round; each round reads twice as many."""

ROWS = 256
"""Answers that are read together: their logits take 51 MB in float32 over OPT's 50,272 words."""


@dataclass(frozen=True)
class AnswerList:
    """A closed list of answers, as tokens and as a tree of shared beginnings.

    Attributes:
        texts: A different answers.
        ids: (A, K + 1) int64, tokens and the end token, filled up with zeros.
        lengths: (A) int64, tokens before the end token.
        nodes: (A, K + 1) int64, a number for the first tokens of an answer that all answers with
            the same first tokens share; -1 behind the last token.
    """

    texts: tuple[str, ...]
    ids: Tensor
    lengths: Tensor
    nodes: Tensor

    @classmethod
    def encode(
        cls, tokenizer: PreTrainedTokenizerBase, template: Template, texts: Sequence[str]
    ) -> "AnswerList":
        """The list as training writes its answers; of those with equal tokens, the first.

        Raises:
            UsageError: the list is empty.
        """
        found: dict[tuple[int, ...], str] = {}
        for ids, text in zip(answer_ids(tokenizer, template, texts), texts, strict=True):
            found.setdefault(tuple(ids), text)
        if not found:
            raise UsageError("the list of answers is empty: wanted one answer per line")
        return cls.of_ids(found)

    @classmethod
    def of_ids(cls, answers: Mapping[tuple[int, ...], str]) -> "AnswerList":
        """Tokens with the end token -> text."""
        numbers: dict[tuple[int, ...], int] = {}
        width = max(map(len, answers))
        ids = torch.zeros(len(answers), width, dtype=torch.long)
        nodes = torch.full((len(answers), width), -1)
        for row, answer in enumerate(answers):
            ids[row, : len(answer)] = torch.tensor(answer)
            for count in range(len(answer)):
                nodes[row, count] = numbers.setdefault(answer[:count], len(numbers))
        lengths = torch.tensor([len(answer) - 1 for answer in answers])
        return cls(tuple(answers.values()), ids, lengths, nodes)

    def to(self, device: torch.device) -> "AnswerList":
        """The same list on another device."""
        moved = (tensor.to(device) for tensor in (self.ids, self.lengths, self.nodes))
        return AnswerList(self.texts, *moved)


@dataclass(frozen=True)
class Ranker:
    """Answers with the most probable one of a list."""

    answers: AnswerList

    @property
    def longest(self) -> AnswerLimit:
        """See `Answerer`."""
        place = int(self.answers.lengths.argmax())
        return AnswerLimit(
            tokens=int(self.answers.lengths[place]),
            words=f"{excerpt(self.answers.texts[place])}, the list's longest",
            mend="leave that answer out",
        )

    def __call__(self, model: EPALM, asked: GenerationBatch) -> list[Answer]:
        """The best answer to each question."""
        best, scores = rank(
            model,
            asked.cache,
            asked.input_ids,
            asked.attention_mask,
            self.answers,
            pictures=asked.pictures,
        )
        counts = self.answers.lengths + 1
        return [
            Answer(self.answers.texts[place], score, int(counts[place]))
            for place, score in zip(best.tolist(), scores.tolist(), strict=True)
        ]


@torch.no_grad()
def rank(
    model: EPALM,
    cache: PrefixCache,
    input_ids: Tensor,
    attention_mask: Tensor,
    answers: AnswerList,
    *,
    pictures: Tensor,
) -> tuple[Tensor, Tensor]:
    """The most probable answer to each prompt.

    With the tail "official" a token is scored as in generation, where the visual row has read the
    text up to it; the training loss lets that row read the tokens it scores.

    Args:
        model: in eval mode.
        cache: of the pictures.
        input_ids: (B, T) int64, left-padded.
        attention_mask: (B, T) int64.
        answers: the list.
        pictures: (B) int64, the row of `cache` that each prompt is about.

    Returns:
        Places in the list (B) int64 and their scores (B) float32.

    Raises:
        ModelError: see `epalm.model.generation.decode.generate_from_cache`.
    """
    check_room(model, input_ids, attention_mask, int(answers.lengths.max()))
    listed = answers.to(input_ids.device)
    mask = None if bool(attention_mask.all()) else attention_mask
    prompts = cache.branch(pictures, mask)
    last = read_text(model, prompts, input_ids)[:, -1]
    board = RankingState.begin(_log_probabilities(model, last, listed.ids[:, 0]), listed)
    count = FIRST_READ
    while True:
        questions, chosen = board.promising(count)
        if not len(questions):
            break
        order = listed.lengths[chosen].argsort(descending=True)
        for part in order.split(ROWS):
            _read(model, prompts.branch(questions[part]), board, questions[part], chosen[part])
        count *= 2
    scores, places = board.finished().max(dim=1)
    return places, scores


@dataclass(frozen=True)
class RankingState:
    """What is known of each answer to each question.

    Attributes:
        answers: the list.
        first: (B, A) float32, log-probability of the first token.
        bounds: (B, A) float32, log-probability of the tokens that were read; it is the answer's own
            where all were, else more.
        known: (B, A) bool, whether all were.
    """

    answers: AnswerList
    first: Tensor
    bounds: Tensor
    known: Tensor

    @classmethod
    def begin(cls, first: Tensor, answers: AnswerList) -> "RankingState":
        """Where only the first tokens are known; an empty answer has no other."""
        return cls(answers, first, first.clone(), (answers.lengths == 0).repeat(len(first), 1))

    def finished(self) -> Tensor:
        """(B, A) float32, the scores of all answers that were read to their end."""
        return self.bounds.masked_fill(~self.known, -torch.inf)

    def promising(self, count: int) -> tuple[Tensor, Tensor]:
        """(questions, answers) int64: up to `count` answers a question that may still win."""
        best = self.finished().amax(dim=1, keepdim=True)
        hopeless = self.known | (self.bounds <= best)
        open_bounds = self.bounds.masked_fill(hopeless, -torch.inf)
        values, chosen = open_bounds.topk(min(count, open_bounds.shape[1]), dim=1)
        questions, ranks = values.isfinite().nonzero(as_tuple=True)
        return questions, chosen[questions, ranks]


def _read(
    model: EPALM, cache: PrefixCache, board: RankingState, questions: Tensor, chosen: Tensor
) -> None:
    """Read answers token by token, and note what that says of all answers that begin alike.

    Args:
        model: in eval mode.
        cache: of the prompts, a row for each answer to be read; changed.
        board: changed.
        questions: (N) int64.
        chosen: (N) int64, an answer to each, the longest ones first.
    """
    listed = board.answers
    totals = board.first[questions]
    for step in range(int(listed.lengths[chosen[0]])):
        count = int((listed.lengths[chosen] > step).sum())
        cache.keep(count)
        reading = chosen[:count]
        states = read_text(model, cache, listed.ids[reading, step, None])[:, -1]
        found = _log_probabilities(model, states, listed.ids[:, step + 1])
        alike = listed.nodes[:, step + 1] == listed.nodes[reading, step + 1, None]
        totals[:count] += found.masked_fill(~alike, 0)
        rows, ended = (alike & (listed.lengths == step + 1)).nonzero(as_tuple=True)
        board.known[questions[rows], ended] = True
    board.bounds.scatter_reduce_(0, questions[:, None].expand_as(totals), totals, "amin")


def _log_probabilities(model: EPALM, states: Tensor, wanted: Tensor) -> Tensor:
    """(rows, A) float32 of the wanted ids (A), from what the head reads (rows, width)."""
    logits: Tensor = model.language_model.lm_head(states).float()
    return logits[:, wanted] - logits.logsumexp(dim=1, keepdim=True)
