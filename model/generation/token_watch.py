"""The tokens of answers while they are generated, each with its probability."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from epalm.model.generation.token_log_probs import SingleBeamRecorder


class TokenStep(NamedTuple):
    """One generated token.

    Attributes:
        token: id of the token.
        log_probability: natural log-probability of the token.
        top: the most probable tokens in its place with their log-probabilities, the most probable
            first.
        is_last: whether it is an end token.
    """

    token: int
    log_probability: float
    top: tuple[tuple[int, float], ...]
    is_last: bool


OnToken = Callable[[int, TokenStep], object]
"""Called with the index of a prompt in its batch and its next token."""


class TokenWatch(SingleBeamRecorder, BaseStreamer):
    """Records log-probabilities, and reports each token as soon as it is selected."""

    def __init__(self, ends: Sequence[int], on_token: OnToken, *, top: int) -> None:
        """Start without any steps.

        Args:
            ends: ids of the end tokens; tokens after one of them are not reported.
            on_token: called for each token of each prompt.
            top: number of the most probable tokens that are reported at each step.
        """
        super().__init__(ends)
        self._on_token, self._top = on_token, top
        self._ended: set[int] = set()

    def put(self, value: Tensor) -> None:
        """Report the tokens (B) of a step; the prompts, which come before all steps, are not."""
        if self._step_log_probs is None:
            return
        scores = self._step_log_probs
        chosen = scores.gather(1, value.to(scores.device)[:, None])[:, 0].tolist()
        best = torch.topk(scores, self._top, dim=1) if self._top else None
        for row, token in enumerate(value.tolist()):
            if row in self._ended:
                continue
            top: tuple[tuple[int, float], ...] = ()
            if best is not None:
                ids, log_probs = best.indices[row].tolist(), best.values[row].tolist()
                top = tuple(zip(ids, log_probs, strict=True))
            is_last = token in self._ends
            if is_last:
                self._ended.add(row)
            self._on_token(row, TokenStep(token, chosen[row], top, is_last))

    def end(self) -> None:
        """All texts have ended."""
