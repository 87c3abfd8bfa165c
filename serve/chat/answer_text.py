"""The text of an answer, piece by piece, while its tokens are generated."""

from dataclasses import dataclass, field
from typing import Any

import torch

from epalm.model.generation.token_watch import TokenStep
from epalm.model.text.text_encoder import TextEncoder

INCOMPLETE = "\ufffd"
"""End of a text whose last character has further bytes in the next token."""


@dataclass(frozen=True)
class Piece:
    """What a token adds to an answer.

    Attributes:
        text: the characters; empty if they are not yet certain.
        logprob: the token as OpenAI's API reports it; None for an end token.
    """

    text: str
    logprob: dict[str, Any] | None


@dataclass
class AnswerText:
    """Turns tokens into the pieces of a text.

    Attributes:
        encoder: encoder of the texts.
        sent: the text so far.
    """

    encoder: TextEncoder
    sent: str = ""
    _tokens: list[int] = field(default_factory=list)

    def add(self, step: TokenStep) -> Piece:
        """The piece that a token adds."""
        if step.is_last:
            return Piece("", None)
        self._tokens.append(step.token)
        (text,) = self.encoder.decode(torch.tensor([self._tokens]))
        piece = "" if text.endswith(INCOMPLETE) else self.rest(text)
        self.sent += piece
        top = [self._entry(token, log_probability) for token, log_probability in step.top]
        return Piece(piece, self._entry(step.token, step.log_probability) | {"top_logprobs": top})

    def rest(self, text: str) -> str:
        """What follows the text so far; empty if `text` does not continue it."""
        return text[len(self.sent) :] if text.startswith(self.sent) else ""

    def _entry(self, token: int, log_probability: float) -> dict[str, Any]:
        text = str(self.encoder.tokenizer.decode([token]))
        return {"token": text, "logprob": log_probability, "bytes": list(text.encode())}
