"""Work for the model thread, and its results."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from epalm.ask.answers import Answer
from epalm.extract.decoding.decode_batch import Input
from epalm.model.generation.token_watch import TokenStep
from epalm.model.method.model_settings import Decoding

OnStep = Callable[[TokenStep], object]
"""Called in the model thread with each token of an answer."""


@dataclass(frozen=True)
class Question:
    """A question about a sample.

    Attributes:
        prompt: the question; empty for captions.
        decoding: decoding settings.
        alternatives: number of the most probable answers to find by beam search.
        blind: whether the blind control answers too.
        top_tokens: number of the most probable tokens to report at each step.
    """

    prompt: str
    decoding: Decoding
    alternatives: int = 0
    blind: bool = False
    top_tokens: int = 0


@dataclass(frozen=True)
class JobResult:
    """What the model thread computed.

    Attributes:
        features: (L, D) features in the dtype of the store of training.
        answer: the answer; None if there was no question.
        blind: answer of the blind control; None if it was not requested.
        prompt_tokens: number of tokens of the prompt.
        ended: whether the answer has an end token, i.e. was not cut at its maximum length.
    """

    features: NDArray[np.floating]
    answer: Answer | None = None
    blind: Answer | None = None
    prompt_tokens: int = 0
    ended: bool = True


@dataclass(eq=False)
class Job:
    """One request to the model thread.

    Attributes:
        key: SHA-256 of the sample.
        inputs: input of the encoder.
        question: the question; None for features alone.
        on_step: called with each token; None for nobody.
        future: receives the result; a job that is cancelled before its batch starts is skipped.
    """

    key: str
    inputs: Input
    question: Question | None
    on_step: OnStep | None = None
    future: "Future[JobResult]" = field(default_factory=Future)


def distinct(jobs: Sequence[Job]) -> dict[str, Input]:
    """The samples of some jobs, each once: key -> input of the encoder."""
    return {job.key: job.inputs for job in jobs}
