"""Log-probabilities of generated texts, recorded during generation.

transformers can compute them from the scores of all steps. Those take steps x beams x vocabulary
numbers, 772 MB for 20 tokens of 64 questions with 3 beams, and several times that while they are
gathered. The recorders here keep the scores of one step only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import LogitsProcessor


class LogProbRecorder(Protocol):
    """A logits processor that records scores without changing them. It must be the first one."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Record the scores of a step, (sequences, vocabulary) float32, and return them."""

    def sums(self, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each generated text.

        Args:
            new_ids: (B, new) int64, all generated tokens.

        Returns:
            The sum of the log-probabilities of each text's tokens, end token included, (B) float32,
            and the number of these tokens, (B) int64.
        """


class SingleBeamRecorder(LogitsProcessor):
    """Recorder for greedy search and sampling, which never reorder the sequences."""

    def __init__(self, ends: Sequence[int]) -> None:
        """Start without any steps.

        Args:
            ends: ids of the end tokens; tokens after one of them do not count.
        """
        self._ends = ends
        self._step_log_probs: Tensor | None = None
        self._token_log_probs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogProbRecorder`."""
        self._record(input_ids[:, -1])
        self._step_log_probs = scores.log_softmax(dim=-1)
        return scores

    def sums(self, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `LogProbRecorder`."""
        self._record(new_ids[:, -1])
        counted = _counted(new_ids, self._ends)
        log_probs = torch.stack(self._token_log_probs, dim=1)
        return log_probs.masked_fill(~counted, 0).sum(dim=1), counted.sum(dim=1)

    def _record(self, tokens: Tensor) -> None:
        """Record the log-probabilities of the tokens that the previous step selected."""
        if self._step_log_probs is not None:
            self._token_log_probs.append(self._step_log_probs.gather(1, tokens[:, None])[:, 0])


@dataclass(frozen=True)
class BeamStep:
    """The texts of all beams before a token is selected.

    Attributes:
        texts: (B, beams, tokens so far) int64.
        totals: (B, beams) float32, log-probabilities of the texts.
        ends: (B, beams, E) float32, log-probabilities of the end tokens as the next token.
    """

    texts: Tensor
    totals: Tensor
    ends: Tensor


class BeamRecorder(LogitsProcessor):
    """Recorder for beam search, which reorders sequences: texts are identified by their tokens."""

    def __init__(self, ends: Sequence[int], beams: int) -> None:
        """Start without any steps.

        Args:
            ends: ids of the end tokens; tokens after one of them do not count.
            beams: number of beams per text, at least 2.
        """
        self._ends, self._beams = list(ends), beams
        self._prompt_length = 0
        self._steps: list[BeamStep] = []
        self._step_log_probs = torch.empty(0)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `LogProbRecorder`."""
        if not self._steps:
            self._prompt_length = input_ids.shape[1]
        texts = input_ids[:, self._prompt_length :].unflatten(0, (-1, self._beams))
        totals = scores.new_zeros(texts.shape[:2])
        if self._steps:
            totals = self._extended_totals(texts)
        self._step_log_probs = scores.log_softmax(dim=-1).unflatten(0, (-1, self._beams))
        self._steps.append(BeamStep(texts, totals, self._step_log_probs[..., self._ends]))
        return scores

    def sums(self, new_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `LogProbRecorder`."""
        counts = _counted(new_ids, self._ends).sum(dim=1)
        sums = self._step_log_probs.new_zeros(len(new_ids))
        for length, step in enumerate(self._steps[: new_ids.shape[1]]):
            beam = _matching_beams(new_ids[:, None, :length], step.texts)
            texts = torch.arange(len(beam), device=beam.device)
            ended = step.totals[texts, beam[:, 0]] + self._end_log_probs(
                step, beam[:, 0], new_ids[:, length]
            )
            sums = torch.where(counts == length + 1, ended, sums)
        if new_ids.shape[1] == len(self._steps):  # some may lack an end token, cut by the limit
            totals = self._extended_totals(new_ids[:, None])[:, 0]
            cut = ~_is_end(new_ids, self._ends).any(dim=1)
            sums = torch.where(cut, totals, sums)
        return sums, counts

    def _end_log_probs(self, step: BeamStep, beam: Tensor, tokens: Tensor) -> Tensor:
        """(B) log-probability of each token (B) after beam (B); 0 where it is no end token."""
        ends = torch.tensor(self._ends, device=tokens.device)
        same = tokens[:, None] == ends
        texts = torch.arange(len(beam), device=beam.device)
        return step.ends[texts, beam].masked_fill(~same, 0).sum(dim=1)

    def _extended_totals(self, texts: Tensor) -> Tensor:
        """(B, texts) log-probabilities of texts (B, texts, tokens) one token longer than before."""
        previous = self._steps[-1]
        beam = _matching_beams(texts[..., :-1], previous.texts)
        batch = torch.arange(len(beam), device=beam.device)[:, None]
        return previous.totals.gather(1, beam) + self._step_log_probs[batch, beam, texts[..., -1]]


def _is_end(ids: Tensor, ends: Sequence[int]) -> Tensor:
    """Whether each token is an end token, bool of the shape of `ids`."""
    return torch.isin(ids, torch.tensor(list(ends), device=ids.device))


def _counted(new_ids: Tensor, ends: Sequence[int]) -> Tensor:
    """(B, new) bool, true up to and including the first end token."""
    is_end = _is_end(new_ids, ends).long()
    return is_end.cumsum(dim=1) - is_end == 0


def _matching_beams(texts: Tensor, beam_texts: Tensor) -> Tensor:
    """(B, texts) int64: the beam of (B, beams, tokens) with the tokens of (B, texts, tokens)."""
    same = (texts[:, :, None] == beam_texts[:, None]).all(dim=-1)
    return same.int().argmax(dim=-1)
