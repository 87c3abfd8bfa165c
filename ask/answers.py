"""Answers as texts that know their probability and the alternatives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp
from typing import Self

from epalm.model.engine.length_check import AnswerLimit
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import Answer as GeneratedAnswer
from epalm.model.generation.batched_generation import GenerationBatch, Generator, most_probable
from epalm.model.text.text_encoder import TextEncoder


class Answer(str):
    """An answer, a `str` with these attributes.

    Attributes:
        log_probability: natural logarithm of the probability of the answer's tokens, end token
            included, given sample and question.
        tokens: number of these tokens.
        alternatives: the most probable answers of a beam search, the most probable first; empty
            unless asked for.
    """

    __slots__ = ("alternatives", "log_probability", "tokens")

    log_probability: float
    tokens: int
    alternatives: tuple["Answer", ...]

    def __new__(
        cls,
        text: str,
        log_probability: float,
        tokens: int,
        alternatives: "tuple[Answer, ...]" = (),
    ) -> Self:
        """Make a text with its attributes."""
        answer = super().__new__(cls, text)
        answer.log_probability = log_probability
        answer.tokens = tokens
        answer.alternatives = alternatives
        return answer

    @property
    def probability(self) -> float:
        """The probability of the answer under the model, 0 to 1."""
        return exp(min(self.log_probability, 0.0))


@dataclass(frozen=True)
class Alternatives:
    """A generator that also collects the most probable answers to each question.

    Attributes:
        generator: generates the answers.
        text: encoder of the texts.
        count: largest number of alternatives, and the number of beams if it is above 1.
        found: name of each question -> its alternatives, the most probable first.
    """

    generator: Generator
    text: TextEncoder
    count: int
    found: dict[str, list[GeneratedAnswer]] = field(default_factory=dict)

    @property
    def limit(self) -> AnswerLimit:
        """See `AnswerStrategy`."""
        return self.generator.limit

    def __call__(self, model: EPALM, batch: GenerationBatch) -> list[GeneratedAnswer]:
        """See `AnswerStrategy`."""
        answers = self.generator(model, batch)  # first, since its tokens may be watched
        longest = self.generator.decoding.max_new_tokens
        beams = max(self.count, 2)
        found = most_probable(model, self.text, batch, beams, max_new_tokens=longest)
        for name, alternatives in zip(batch.names, found, strict=True):
            self.found[name] = alternatives[: self.count]
        return answers


def as_answers(
    answers: Sequence[GeneratedAnswer], alternatives: Sequence[Sequence[GeneratedAnswer]]
) -> list[Answer]:
    """Answers as texts, each with its alternatives."""
    return [
        Answer(
            answer.text,
            answer.log_probability,
            answer.tokens,
            tuple(Answer(one.text, one.log_probability, one.tokens) for one in others),
        )
        for answer, others in zip(answers, alternatives, strict=True)
    ]


def as_fields(answer: Answer) -> dict[str, object]:
    """An answer, its probability and its alternatives for JSON."""
    return _fields(answer) | {"alternatives": [_fields(one) for one in answer.alternatives]}


def _fields(answer: Answer) -> dict[str, object]:
    return {
        "answer": str(answer),
        "probability": answer.probability,
        "log_probability": answer.log_probability,
        "tokens": answer.tokens,
    }
