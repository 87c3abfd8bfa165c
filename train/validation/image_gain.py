"""Validation loss and image gain: how many nats per token the right samples are worth.

The image gain is the mean loss with the features of other samples minus the mean loss. It needs no
generation. "Image" stands for any sample, as in `epalm.model`: a video or an audio clip, too.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.readers.shuffled_control import ShuffledSource
from epalm.errors import UsageError
from epalm.metrics.intervals import bootstrap_intervals, known_interval
from epalm.model.checkpoints.validation_figures import IMAGE_GAIN, IMAGE_GAIN_INTERVAL, LOSS
from epalm.model.engine.losses import TokenLosses
from epalm.model.engine.model_batch import Batch, collate_texts
from epalm.model.epalm import EPALM
from epalm.model.families.family import text_positions
from epalm.model.text.text_encoder import TextEncoder
from epalm.tasks.types import Example
from epalm.train.config.recipe import Recipe
from epalm.train.data.batch_loader import AnySource
from epalm.train.data.tokenized_texts import Text, distinct_images
from epalm.train.parallel.distributed import ALONE, Group

logger = logging.getLogger(__name__)

SEED = 0
"""Seed of the drawn examples and of the shuffled samples: the same for all runs, so that runs on
the same validation examples are compared on the same pairs."""


@dataclass(frozen=True)
class ImageGain:
    """Computes the loss on the answers of validation examples, with right and with other samples.

    Attributes:
        model: model that is being trained.
        examples: validation examples with an answer.
        texts: token ids of each example's prompt and answer.
        pad: id of the pad token.
        source: features of their samples; view 0 is read.
        others: features of other samples, each sample those of exactly one other; None for a blind
            run, or if there is only one sample.
        batch_size: examples per forward pass of this process.
        group: processes that the examples are divided among.
    """

    model: EPALM
    examples: Sequence[Example]
    texts: Sequence[Text]
    pad: int
    source: AnySource
    others: AnySource | None
    batch_size: int
    group: Group = ALONE

    @torch.no_grad()
    def __call__(self) -> dict[str, float]:
        """`LOSS` and, unless `others` is None, `IMAGE_GAIN` with its interval.

        Returns:
            The figures in nats per token, the same in every process; empty without examples, or
            with a warning if a loss is not finite.
        """
        if not self.examples:
            return {}
        count, group = len(self.examples), self.group
        own = list(range(count))[group.rank :: group.world_size]
        padding = -(-count // group.world_size) - len(own)
        padded = [*own, *range(padding)]  # the same number of batches in every process
        totals = np.empty((count, 3))
        for rank, shard in enumerate(group.gather(self._totals(padded)[: len(own)])):
            totals[rank :: group.world_size] = shard
        keys = [example.key for example in self.examples]
        if not np.isfinite(totals).all():
            logger.warning("the validation loss is not finite: it is not logged, nor an image gain")
            return {}
        return group.gather(summarize(totals, keys, blind=self.others is None))[0]

    def _totals(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """(n, 3): loss, loss with the other samples, and number of tokens of examples."""
        self.model.eval()
        totals = np.empty((len(indices), 3))
        by_length = sorted(range(len(indices)), key=lambda place: self._length(indices[place]))
        for start in range(0, len(by_length), self.batch_size):
            places = by_length[start : start + self.batch_size]
            chosen = [indices[place] for place in places]
            losses = self._losses(chosen, self.source)
            other = losses if self.others is None else self._losses(chosen, self.others)
            totals[places, 0], totals[places, 1] = _sums(losses), _sums(other)
            totals[places, 2] = torch.bincount(losses.examples, minlength=len(chosen)).cpu()
        return totals

    def _length(self, index: int) -> int:
        return sum(map(len, self.texts[index]))

    def _losses(self, indices: Sequence[int], source: AnySource) -> TokenLosses:
        keys = [self.examples[index].key for index in indices]
        distinct, images = distinct_images(source.rows(keys))
        features = torch.as_tensor(source.read([keys[place] for place in distinct]))
        texts = [self.texts[index] for index in indices]
        tensors = collate_texts(texts, supervise="answer", pad=self.pad)
        batch = Batch(features, *tensors, images)
        losses: TokenLosses = self.model(batch.to(next(self.model.parameters()).device))
        return losses


def image_gain(
    model: EPALM,
    text: TextEncoder,
    examples: Sequence[Example],
    source: AnySource,
    *,
    recipe: Recipe,
    group: Group = ALONE,
    blind: bool = False,
) -> ImageGain:
    """Prepare the loss and the image gain of a run's validation.

    Args:
        model: model that is being trained.
        text: encoder of the model's texts.
        examples: validation examples; those without an answer, or longer than the language model,
            are left out.
        source: features of their samples.
        recipe: batch size, number of examples, and figure that selects the epoch.
        group: processes that the examples are divided among.
        blind: the features are those of other samples already.

    Raises:
        UsageError: `recipe.best_by` names a figure that these examples do not have.
    """
    answered = [example for example in examples if likeliest_answer(example) is not None]
    drawn = _draw(answered, recipe.loss_examples)
    kept, texts = _encode(model, text, drawn)
    keys = [example.key for example in kept]
    shuffled = None if blind or len(set(keys)) < 2 else ShuffledSource(source, [keys], SEED)
    available = {"score", *((LOSS,) if kept else ()), *((IMAGE_GAIN,) if shuffled else ())}
    if recipe.best_by not in available:
        raise UsageError(
            f"best_by is {recipe.best_by}, but only {len(kept)} of {len(examples)} validation "
            f"examples, of {len(set(keys))} samples, have an answer to compute it from: give "
            "`--set best_by=score`, or validation examples with answers"
        )
    batch_size = -(-recipe.batch_size // group.world_size)
    return ImageGain(model, kept, texts, text.pad, source, shuffled, batch_size, group)


def likeliest_answer(example: Example) -> str | None:
    """The answer with the largest weight, the first of equal ones; None without an answer."""
    weights = example.weights or (1.0,) * len(example.answers)
    best = max(range(len(weights)), key=weights.__getitem__, default=None)
    return None if best is None or weights[best] <= 0 else example.answers[best]


def summarize(
    totals: NDArray[np.float64], keys: Sequence[str], *, blind: bool = False
) -> dict[str, float]:
    """Loss and image gain of N examples, and the interval of the gain.

    The interval is a 95 % percentile bootstrap over samples: all questions about a resampled sample
    come together. It does not cover the choice of the other samples.

    Args:
        totals: (N, 3) loss, loss with the other samples, and number of tokens.
        keys: sample of each example.
        blind: give the loss alone.
    """
    loss, shuffled, tokens = totals.sum(axis=0)
    figures = {LOSS: float(loss / tokens)}
    if blind:
        return figures
    figures[IMAGE_GAIN] = float((shuffled - loss) / tokens)
    _, samples = np.unique(np.array(keys), return_inverse=True)
    by_sample = np.zeros((samples.max() + 1, 3))
    np.add.at(by_sample, samples, totals)
    ((low, high),) = bootstrap_intervals(
        by_sample, lambda sums: ((sums[:, 1] - sums[:, 0]) / sums[:, 2])[:, None]
    )
    if known_interval(low, high):
        figures |= zip(IMAGE_GAIN_INTERVAL, (low, high), strict=True)
    return figures


def _sums(losses: TokenLosses) -> NDArray[np.float64]:
    sums: Tensor = losses.per_example()
    return sums.double().cpu().numpy()


def _draw(examples: list[Example], count: int) -> list[Example]:
    """`count` of the examples in their order, the same in every run; 0 for all."""
    if not 0 < count < len(examples):
        return examples
    places = np.random.default_rng(SEED).permutation(len(examples))[:count]
    return [examples[place] for place in sorted(places)]


def _encode(
    model: EPALM, text: TextEncoder, examples: Sequence[Example]
) -> tuple[list[Example], list[Text]]:
    """The examples that fit into the language model, and their token ids."""
    prompts = text.prompt_ids([example.prompt for example in examples])
    answers = text.answer_ids([likeliest_answer(example) or "" for example in examples])
    positions = text_positions(model.language_model.config)
    texts = list(zip(prompts, answers, strict=True))
    fits = [sum(map(len, pair)) <= positions for pair in texts]
    if not all(fits):
        logger.warning(
            "%d of %d validation examples are left out of the validation loss: with their answer "
            "they have more tokens than the language model's %d positions",
            fits.count(False),
            len(fits),
            positions,
        )
    kept = [place for place, fit in enumerate(fits) if fit]
    return [examples[place] for place in kept], [texts[place] for place in kept]
