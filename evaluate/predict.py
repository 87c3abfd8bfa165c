"""From a trained run and questions to answers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from epalm.cache.readers.feature_source import NumpySource
from epalm.console import progress
from epalm.evaluate.preparation.decoding_overrides import AnswerMethod
from epalm.evaluate.scores.breakdowns import answer_types, question_types
from epalm.evaluate.scores.eval_results import PredictionRecord
from epalm.model.checkpoints.run_io import LoadedRun
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
        examples: their media must all be encoded in `source`.
        source: stored vectors; the deterministic view 0 is read.
        answer: how.
        batch_size: examples answered together.
        quiet: show no progress.

    Returns:
        One per example, in the order of the examples, without scores.
    """
    keys = [example.key for example in examples]

    def read(places: list[int]) -> Tensor:
        return torch.from_numpy(source.read([keys[place] for place in places], view=0))

    prompts, ids = zip(*((one.prompt, one.question_id) for one in examples), strict=True)
    questions = Questions(prompts, ids, keys, read)
    with progress("answering", total=len(examples), unit="examples", quiet=quiet) as tick:
        answers = answer_questions(
            run.model,
            run.tokenizer,
            run.record.model.text_template(),
            questions,
            answer,
            batch_size=batch_size,
            on_batch=tick,
        )
    return _answered(examples, answers)


def _answered(
    examples: Sequence[Example], answers: Sequence[Answer]
) -> tuple[PredictionRecord, ...]:
    (_, kinds), (_, forms) = question_types(examples), answer_types(examples)
    return tuple(
        PredictionRecord(
            id=example.question_id,
            key=example.key,
            prompt=example.prompt,
            prediction=answer.text,
            references=example.references,
            scores={},
            question_type=kinds[row] if example.prompt else example.question_type,
            answer_type=forms[row] if example.prompt else "",
            log_probability=answer.log_probability,
            tokens=answer.tokens,
        )
        for row, (example, answer) in enumerate(zip(examples, answers, strict=True))
    )


def answerer(way: AnswerMethod, run: LoadedRun) -> AnswerStrategy:
    """What answers that way."""
    if not way.answers:
        return Generator(run.tokenizer, way.decoding)
    template = run.record.model.text_template()
    return Ranker(AnswerList.encode(run.tokenizer, template, way.answers))
