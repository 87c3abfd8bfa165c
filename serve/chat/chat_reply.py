"""Replies of /v1/chat/completions: whole, or as server-sent events."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from epalm.ask.answers import Answer
from epalm.serve.chat.answer_text import Piece
from epalm.serve.chat.chat_request import EXTENSION, ChatRequest
from epalm.serve.engine.jobs import JobResult
from epalm.serve.engine.service import ShownNeighbor

DONE = "data: [DONE]\n\n"
"""The last event of a stream."""


@dataclass(frozen=True)
class Outcome:
    """An answer with everything that was requested.

    Attributes:
        key: SHA-256 of the sample.
        result: the answer.
        neighbors: nearest samples of the store.
    """

    key: str
    result: JobResult
    neighbors: Sequence[ShownNeighbor]


@dataclass(frozen=True)
class Reply:
    """Formats the answer to one request.

    Attributes:
        model: name of the run.
        request: the request.
        id: id of the reply.
        created: seconds since 1970.
    """

    model: str
    request: ChatRequest
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, outcome: Outcome, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The reply as one object."""
        answer = _answer(outcome)
        tokens = [piece.logprob for piece in pieces if piece.logprob]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": str(answer), "refusal": None},
            "logprobs": {"content": tokens, "refusal": None} if self.request.logprobs else None,
            "finish_reason": _finish_reason(outcome),
        }
        return self._base("chat.completion") | {
            "choices": [choice],
            "usage": _usage(outcome),
            EXTENSION: self._extension(outcome),
        }

    def first(self) -> str:
        """The event that opens a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> str:
        """The event of a token; empty if it adds nothing."""
        has_token = self.request.logprobs and piece.logprob
        if not piece.text and not has_token:
            return ""
        logprobs = {"content": [piece.logprob], "refusal": None} if has_token else None
        return self._chunk({"content": piece.text}, logprobs=logprobs)

    def last(self, outcome: Outcome, rest: str) -> Iterator[str]:
        """The events after the last token.

        Args:
            outcome: the outcome.
            rest: end of the text that no event has had.
        """
        if rest:
            yield self._chunk({"content": rest})
        yield self._chunk(
            {}, finish_reason=_finish_reason(outcome), extension=self._extension(outcome)
        )
        if self.request.include_usage:
            usage = self._base("chat.completion.chunk")
            yield _event(usage | {"choices": [], "usage": _usage(outcome)})
        yield DONE

    def _chunk(
        self,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
        extension: dict[str, Any] | None = None,
    ) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = self._base("chat.completion.chunk") | {"choices": [choice]}
        return _event(chunk | ({EXTENSION: extension} if extension else {}))

    def _base(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _extension(self, outcome: Outcome) -> dict[str, Any]:
        answer, decoding = _answer(outcome), self.request.question.decoding
        blind = outcome.result.blind
        return {
            "key": outcome.key,
            **_probability(answer),
            "seed": decoding.seed if decoding.do_sample else None,
            "alternatives": [{"text": str(one)} | _probability(one) for one in answer.alternatives],
            "blind": None if blind is None else {"text": str(blind)} | _probability(blind),
            "neighbors": [
                {
                    "key": one.neighbor.key,
                    "similarity": one.neighbor.similarity,
                    "thumbnail": one.thumbnail,
                }
                for one in outcome.neighbors
            ],
        }


def _answer(outcome: Outcome) -> Answer:
    assert outcome.result.answer is not None, "the job had a question"
    return outcome.result.answer


def _probability(answer: Answer) -> dict[str, float]:
    # A sampled text may be impossible under the unchanged distribution; JSON has no infinity.
    log_probability = max(answer.log_probability, -1e30)
    assert not math.isnan(log_probability)
    return {"log_probability": log_probability, "probability": answer.probability}


def _finish_reason(outcome: Outcome) -> str:
    return "stop" if outcome.result.ended else "length"


def _usage(outcome: Outcome) -> dict[str, int]:
    prompt, new = outcome.result.prompt_tokens, _answer(outcome).tokens
    return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


def _event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"
