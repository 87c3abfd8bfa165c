"""From a trained run and questions to generated answers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from epalm.cache.source import FeatureSource
from epalm.console import progress
from epalm.model.decode import generate_all
from epalm.model.saved import LoadedRun
from epalm.tasks.records import Example, Prediction


def predict(
    run: LoadedRun,
    examples: Sequence[Example],
    source: FeatureSource,
    *,
    batch_size: int,
    quiet: bool = False,
) -> list[Prediction]:
    """Generate an answer to every example, as the run's recipe generates.

    Args:
        run: the trained model.
        examples: their media must all be encoded in `source`.
        source: stored vectors; the deterministic view 0 is read.
        batch_size: examples generated together.
        quiet: show no progress.

    Returns:
        One prediction per example, in the order of the examples.
    """

    def read(places: list[int]) -> Tensor:
        return torch.from_numpy(source.read([examples[place].key for place in places], view=0))

    with progress("answering", total=len(examples), unit="examples", quiet=quiet) as tick:
        texts = generate_all(
            run.model,
            run.tokenizer,
            run.record.model.text_template(),
            [example.prompt for example in examples],
            read,
            decoding=run.record.decoding,
            batch_size=batch_size,
            tick=tick,
        )
    return [
        Prediction(example.question_id, example.key, text)
        for example, text in zip(examples, texts, strict=True)
    ]
