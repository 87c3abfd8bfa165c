"""Scores of the present weights on the validation examples."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.compiler import set_stance
from transformers import PreTrainedTokenizerBase

from epalm.metrics.answer_variety import low_variety_warning
from epalm.metrics.metric_registry import Metric
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import Generator, Questions, answer_questions
from epalm.model.method.model_settings import Template
from epalm.tasks.types import Example, Prediction
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import AnySource, read_tokens
from epalm.train.parallel.distributed import ALONE, Group

logger = logging.getLogger(__name__)


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
        group: who shares the examples; its first process scores.
        blind: the features are those of other media, so that answers alike are no wonder.
    """

    model: EPALM
    tokenizer: PreTrainedTokenizerBase
    template: Template
    recipe: Recipe
    metric: Metric
    examples: Sequence[Example]
    source: AnySource
    group: Group = ALONE
    blind: bool = False

    def __call__(self) -> dict[str, float]:
        """Scores, the selecting one first; the same in every process."""
        mine = self.examples[self.group.rank :: self.group.world]
        missing = -(-len(self.examples) // self.group.world) - len(mine)
        alike = [*mine, *self.examples[:missing]]  # for equally many batches in every process
        shares = self.group.gather(self._answer(alike)[: len(mine)])
        texts = [""] * len(self.examples)
        for rank, share in enumerate(shares):
            texts[rank :: self.group.world] = share
        return self.group.gather(self._score(texts) if self.group.leads else {})[0]

    def _answer(self, examples: Sequence[Example]) -> list[str]:
        def read(places: list[int]) -> Tensor:
            return read_tokens(self.source, [examples[place] for place in places])

        columns = ((one.prompt, one.question_id, one.key) for one in examples)
        prompts, ids, keys = zip(*columns, strict=True)
        with set_stance("force_eager"):  # layers are compiled for training's steps
            answers = answer_questions(
                self.model,
                self.tokenizer,
                self.template,
                Questions(prompts, ids, keys, read),
                Generator(self.tokenizer, self.recipe.decoding()),
                batch_size=-(-self.recipe.batch_size // self.group.world),
                on_batch=_no_progress,
            )
        return [answer.text for answer in answers]

    def _score(self, texts: Sequence[str]) -> dict[str, float]:
        pairs = zip(self.examples, texts, strict=True)
        predictions = [
            Prediction(example.question_id, example.key, text) for example, text in pairs
        ]
        scores = self.metric(predictions, self.examples)
        self._warn_of_variety(texts)
        head = {scores.headline: scores.values[scores.headline]}
        return head | scores.values

    def _warn_of_variety(self, texts: Sequence[str]) -> None:
        references = [example.references for example in self.examples]
        questions = any(example.prompt for example in self.examples)
        alike = "" if self.blind else low_variety_warning(texts, references, questions=questions)
        if alike:
            logger.warning("%s", alike)


def _no_progress(count: int) -> None:
    del count
