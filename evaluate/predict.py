"""Predictions of a trained run: the questions of a split answered from stored features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from epalm.cache.readers.feature_source import NumpySource
from epalm.console import progress
from epalm.evaluate.preparation.answer_method import AnswerMethod
from epalm.evaluate.scores.breakdowns import answer_types, question_types
from epalm.evaluate.scores.eval_results import PredictionRecord
from epalm.model.checkpoints.adapter_io import LoadedRun
from epalm.model.generation.batched_generation import (
    Answer,
    AnswerStrategy,
    Generator,
    Questions,
    answer_questions,
)
from epalm.model.generation.ranking import AnswerList, Ranker
from epalm.tasks.types import Example


def predict(
    run: LoadedRun,
    examples: Sequence[Example],
    source: NumpySource,
    answer: AnswerStrategy,
    *,
    batch_size: int,
    quiet: bool = False,
) -> tuple[PredictionRecord, ...]:
    """Answer every example.

    Args:
        run: the trained model.
        examples: examples whose samples are all encoded in `source`.
        source: reader of the stored features; view 0, without augmentation, is read, or what the
            source has in its place, such as a mean over views.
        answer: generates or ranks the answers of a batch.
        batch_size: number of examples per batch.
        quiet: show no progress.

    Returns:
        One prediction per example, in the order of the examples, without scores.
    """
    keys = [example.key for example in examples]

    def read(indices: list[int]) -> Tensor:
        return torch.from_numpy(source.read([keys[index] for index in indices], view=0))

    prompts = [example.prompt for example in examples]
    ids = [example.question_id for example in examples]
    questions = Questions(prompts, ids, keys, read)
    with progress("answering", total=len(examples), unit="examples", quiet=quiet) as tick:
        answers = answer_questions(
            run.model,
            run.text,
            questions,
            answer,
            batch_size=batch_size,
            on_batch=tick,
        )
    return _records(examples, answers)


def _records(
    examples: Sequence[Example], answers: Sequence[Answer]
) -> tuple[PredictionRecord, ...]:
    (_, question_type), (_, answer_type) = question_types(examples), answer_types(examples)
    return tuple(
        PredictionRecord(
            id=example.question_id,
            key=example.key,
            prompt=example.prompt,
            prediction=answer.text,
            references=example.references,
            scores={},
            question_type=question_type[row] if example.prompt else example.question_type,
            answer_type=answer_type[row] if example.prompt else "",
            log_probability=answer.log_probability,
            tokens=answer.tokens,
        )
        for row, (example, answer) in enumerate(zip(examples, answers, strict=True))
    )


def answer_strategy(method: AnswerMethod, run: LoadedRun) -> AnswerStrategy:
    """The generator, or the ranker of closed-vocabulary evaluation."""
    if not method.answers:
        return Generator(run.text, method.decoding)
    return Ranker(AnswerList.encode(run.text, method.answers))
