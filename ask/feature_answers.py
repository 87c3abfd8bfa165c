"""Answers of a loaded run to questions about samples whose features are known."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from epalm.ask.answers import Alternatives, Answer, as_answers
from epalm.cache.formats.store_format import Features
from epalm.model.checkpoints.adapter_io import LoadedRun
from epalm.model.generation.answer_scores import Scorer
from epalm.model.generation.batched_generation import Answer as GeneratedAnswer
from epalm.model.generation.batched_generation import (
    AnswerStrategy,
    Generator,
    Questions,
    answer_questions,
)
from epalm.model.generation.ranking import AnswerList
from epalm.model.generation.token_watch import TokenWatch
from epalm.model.method.model_settings import Decoding

BATCH_SIZE = 32
"""Samples, and questions, of a batch."""

Watch = Callable[[Sequence[str]], TokenWatch]
"""See `Generator.watch`; the names are those of `question_name`."""


def question_name(key: str, prompt: str) -> str:
    """Name of a question about a sample, on which sampled answers depend."""
    return f"{key}\n{prompt}"


def answer_features(
    run: LoadedRun,
    features: Features,
    prompts: Sequence[str],
    keys: Sequence[str],
    decoding: Decoding,
    *,
    top: int = 0,
    watch: Watch | None = None,
) -> list[Answer]:
    """Answers from features, as evaluation gives them.

    Args:
        run: a loaded run.
        features: (N, L, D), one sample for each prompt.
        prompts: N questions, empty for captions.
        keys: N names, equal for equal samples. Sampled answers depend on them.
        decoding: decoding settings.
        top: number of alternatives.
        watch: function as `Generator.watch`, or None.
    """
    strategy = Generator(run.text, decoding, watch)
    collected = Alternatives(strategy, run.text, top) if top else None
    answers = _answer(run, features, prompts, keys, collected or strategy)
    names = [question_name(key, prompt) for key, prompt in zip(keys, prompts, strict=True)]
    found = collected.found if collected else {}
    return as_answers(answers, [found.get(name, []) for name in names])


def score_features(
    run: LoadedRun,
    features: Features,
    prompts: Sequence[str],
    keys: Sequence[str],
    answers: Sequence[str],
) -> list[list[Answer]]:
    """Log-probabilities of given answers from features, as closed-vocabulary evaluation ranks them.

    Args:
        run: a loaded run.
        features: (N, L, D), one sample for each prompt.
        prompts: N questions, empty for captions.
        keys: N names, equal for equal samples.
        answers: A answers to score for each prompt.

    Returns:
        N lists of the A answers in the order given.
    """
    ids = [tuple(one) for one in run.text.answer_ids(answers)]
    scorer = Scorer(AnswerList.from_token_ids(dict(zip(ids, answers, strict=True))))
    _answer(run, features, prompts, keys, scorer)
    column = {one: index for index, one in enumerate(dict.fromkeys(ids))}
    found = [scorer.found[question_name(*pair)] for pair in zip(keys, prompts, strict=True)]
    return [
        [
            Answer(text, scores[column[one]], len(one))
            for text, one in zip(answers, ids, strict=True)
        ]
        for scores in found
    ]


def _answer(
    run: LoadedRun,
    features: Features,
    prompts: Sequence[str],
    keys: Sequence[str],
    strategy: AnswerStrategy,
) -> list[GeneratedAnswer]:
    tensor = torch.from_numpy(features)

    def read(indices: list[int]) -> Tensor:
        return tensor[indices]

    ids = [f"question {number}" for number in range(len(prompts))]
    return answer_questions(
        run.model,
        run.text,
        Questions(prompts, ids, keys, read),
        strategy,
        batch_size=BATCH_SIZE,
        on_batch=lambda _: None,
    )
