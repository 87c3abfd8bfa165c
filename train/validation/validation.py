"""Scores of the current weights on the validation examples."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.compiler import set_stance

from epalm.metrics.answer_variety import low_variety_warning
from epalm.metrics.metric_registry import Metric, load_metric
from epalm.model.epalm import EPALM
from epalm.model.generation.batched_generation import Generator, Questions, answer_questions
from epalm.model.text.text_encoder import TextEncoder
from epalm.tasks.types import Example, Prediction
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import AnySource, read_tokens
from epalm.train.data.datasets import Data
from epalm.train.options.train_config import DataConfig
from epalm.train.parallel.distributed import ALONE, Group
from epalm.train.validation.image_gain import image_gain

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Generates an answer for each validation example and scores the answers.

    Attributes:
        model: model that is being trained.
        text: encoder of the model's texts.
        recipe: decoding settings and batch size.
        metric: metric of the task.
        examples: validation examples.
        source: features of their samples; view 0 is read.
        group: processes that the examples are divided among; rank 0 scores.
        blind: the features are those of other samples, so that repeated answers give no warning.
        on_texts: called in rank 0 with the text for each example, before they are scored.
        figures: computes the loss and the image gain; None for the scores alone.
    """

    model: EPALM
    text: TextEncoder
    recipe: Recipe
    metric: Metric
    examples: Sequence[Example]
    source: AnySource
    group: Group = ALONE
    blind: bool = False
    on_texts: Callable[[Sequence[str]], None] | None = None
    figures: Callable[[], dict[str, float]] | None = None

    def __call__(self) -> dict[str, float]:
        """Scores, then loss and image gain, but first the one that selects the best epoch.

        They are the same in every process.
        """
        own = self.examples[self.group.rank :: self.group.world_size]
        padding = -(-len(self.examples) // self.group.world_size) - len(own)
        padded = [*own, *self.examples[:padding]]  # the same number of batches in every process
        shards = self.group.gather(self._answer(padded)[: len(own)])
        texts = [""] * len(self.examples)
        for rank, shard in enumerate(shards):
            texts[rank :: self.group.world_size] = shard
        if self.on_texts and self.group.leads:
            self.on_texts(texts)
        scores = self.group.gather(self._score(texts) if self.group.leads else {})[0]
        if self.figures is None:
            return scores
        with set_stance("force_eager"):
            figures = self.figures()
        best_by = self.recipe.best_by
        selecting = {} if best_by == "score" else {best_by: figures.get(best_by, math.nan)}
        return selecting | scores | figures

    def _answer(self, examples: Sequence[Example]) -> list[str]:
        def read(indices: list[int]) -> Tensor:
            return read_tokens(self.source, [examples[index] for index in indices])

        columns = ((example.prompt, example.question_id, example.key) for example in examples)
        prompts, ids, keys = zip(*columns, strict=True)
        with set_stance("force_eager"):  # layers are compiled for training steps only
            answers = answer_questions(
                self.model,
                self.text,
                Questions(prompts, ids, keys, read),
                Generator(self.text, self.recipe.decoding()),
                batch_size=-(-self.recipe.batch_size // self.group.world_size),
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
        selecting = {scores.headline: scores.values[scores.headline]}
        return selecting | scores.values

    def _warn_of_variety(self, texts: Sequence[str]) -> None:
        references = [example.references for example in self.examples]
        questions = any(example.prompt for example in self.examples)
        warning = "" if self.blind else low_variety_warning(texts, references, questions=questions)
        if warning:
            logger.warning("%s", warning)


def validation_of(
    model: EPALM,
    text: TextEncoder,
    data: DataConfig,
    examples: Data,
    *,
    recipe: Recipe,
    group: Group = ALONE,
) -> Validation:
    """The validation of a run.

    Args:
        model: model that is trained.
        text: encoder of the model's texts.
        data: task, and whether the run is a blind control.
        examples: examples of the run and their features.
        recipe: settings of the run.
        group: processes that the examples are divided among.

    Raises:
        UsageError: the examples do not have the figure that selects the epoch.
    """
    val, source, blind = examples.val, examples.source, data.blind
    figures = image_gain(model, text, val, source, recipe=recipe, group=group, blind=blind)
    metric = load_metric(data.task.metric)
    return Validation(model, text, recipe, metric, val, source, group, blind, figures=figures)


def _no_progress(count: int) -> None:
    del count
