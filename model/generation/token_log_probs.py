"""How probable each generated token was, noted while text is generated."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import LogitsProcessor


class LogProbRecorder(Protocol):
    """A logits processor that changes nothing. It stands before all others."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(rows, vocabulary) float32, as they came."""

    def sums(self, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the model gave to each text.

        Args:
            new_ids: (B, new) int64, all that was generated.

        Returns:
            The logarithms' sum over each text's tokens, the end token included, (B) float32, and
            the number of those tokens, (B) int64.
        """


class ChosenTokens(LogitsProcessor):
    """Of one beam: rows never change places."""

    def __init__(self, end: int) -> None:
        """Nothing was chosen yet.

        Args:
            end: id of the end token; what follows it counts for nothing.
        """
        self._end = end
        self._latest: Tensor | None = None
        self._found: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogProbRecorder`."""
        self._settle(input_ids[:, -1])
        self._latest = scores.log_softmax(dim=-1)
        return scores

    def sums(self, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `LogProbRecorder`."""
        self._settle(new_ids[:, -1])
        counted = _counted(new_ids, self._end)
        found = torch.stack(self._found, dim=1)
        return found.masked_fill(~counted, 0).sum(dim=1), counted.sum(dim=1)

    def _settle(self, tokens: Tensor) -> None:
        if self._latest is not None:
            self._found.append(self._latest.gather(1, tokens[:, None])[:, 0])


@dataclass(frozen=True)
class Step:
    """The texts of all beams when a token was to be chosen.

    Attributes:
        texts: (B, beams, tokens so far) int64.
        totals: (B, beams) float32, sums of the logarithms of their tokens.
        ends: (B, beams) float32, logarithm of the probability that they end here.
    """

    texts: Tensor
    totals: Tensor
    ends: Tensor


class ChosenBeams(LogitsProcessor):
    """Of several beams, which change places: a text is found again by its tokens."""

    def __init__(self, end: int, beams: int) -> None:
        """Nothing was chosen yet.

        Args:
            end: id of the end token; what follows it counts for nothing.
            beams: per text; at least 2.
        """
        self._end, self._beams = end, beams
        self._prompt = 0
        self._steps: list[Step] = []
        self._latest = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogProbRecorder`."""
        if not self._steps:
            self._prompt = input_ids.shape[1]
        texts = input_ids[:, self._prompt :].unflatten(0, (-1, self._beams))
        totals = scores.new_zeros(texts.shape[:2])
        if self._steps:
            totals = self._followed(texts, self._steps[-1])
        self._latest = scores.log_softmax(dim=-1).unflatten(0, (-1, self._beams))
        self._steps.append(Step(texts, totals, self._latest[..., self._end]))
        return scores

    def sums(self, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `LogProbRecorder`."""
        counts = _counted(new_ids, self._end).sum(dim=1)
        sums = self._latest.new_zeros(len(new_ids))
        for number, step in enumerate(self._steps[: new_ids.shape[1]]):
            row = _parents(new_ids[:, None, :number], step.texts)
            ended = (step.totals + step.ends).gather(1, row)[:, 0]
            sums = torch.where(counts == number + 1, ended, sums)
        if new_ids.shape[1] == len(self._steps):  # some may stand open, cut by the limit
            whole = self._followed(new_ids[:, None], self._steps[-1])[:, 0]
            cut = ~(new_ids == self._end).any(dim=1)
            sums = torch.where(cut, whole, sums)
        return sums, counts

    def _followed(self, texts: Tensor, before: Step) -> Tensor:
        """(B, texts) sums of texts (B, texts, tokens) that are one token longer than `before`."""
        row = _parents(texts[..., :-1], before.texts)
        chosen = torch.arange(len(row), device=row.device)[:, None], row, texts[..., -1]
        return before.totals.gather(1, row) + self._latest[chosen]


def _counted(new_ids: Tensor, end: int) -> Tensor:
    """(B, new) bool, true up to the end token."""
    ends = (new_ids == end).long()
    return ends.cumsum(dim=1) - ends == 0


def _parents(texts: Tensor, before: Tensor) -> Tensor:
    """(B, texts) int64: which row of (B, beams, tokens) has the tokens of (B, texts, tokens)."""
    same = (texts[:, :, None] == before[:, None]).all(dim=-1)
    return same.int().argmax(dim=-1)
