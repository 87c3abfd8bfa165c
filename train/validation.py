"""Scores of the present weights on the validation examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.metrics.registry import Metric
from epalm.model.batch import Template
from epalm.model.decode import generate_all
from epalm.model.epalm import EPALM
from epalm.tasks.records import Example, Prediction
from epalm.train.loader import AnySource, read_tokens
from epalm.train.recipe import Recipe


@dataclass(frozen=True)
class Validation:
    """Generates for the examples and scores the texts.

    Attributes:
        model: in training.
        tokenizer: the model's.
        template: how prompts were written in training.
        recipe: how to generate, and the batch size.
        metric: the task's.
        examples: what is asked.
        source: their vectors; view 0 is read.
    """

    model: EPALM
    tokenizer: PreTrainedTokenizerBase
    template: Template
    recipe: Recipe
    metric: Metric
    examples: Sequence[Example]
    source: AnySource

    def __call__(self) -> dict[str, float]:
        """Scores, the selecting one first."""
        texts = generate_all(
            self.model,
            self.tokenizer,
            self.template,
            [example.prompt for example in self.examples],
            self._read,
            decoding=self.recipe.decoding(),
            batch_size=self.recipe.batch_size,
            tick=_no_progress,
        )
        pairs = zip(self.examples, texts, strict=True)
        predictions = [
            Prediction(example.question_id, example.key, text) for example, text in pairs
        ]
        scores = self.metric(predictions, self.examples)
        head = {scores.headline: scores.values[scores.headline]}
        return head | scores.values

    def _read(self, places: list[int]) -> Tensor:
        return read_tokens(self.source, [self.examples[place] for place in places])


def _no_progress(count: int) -> None:
    del count
