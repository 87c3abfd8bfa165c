"""Batches of one epoch: which examples, in which order, with which answer and which view.

All of it depends only on (seed, epoch) and the run's order, so a resumed run gets the batches that
it would have got without the interruption.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.cache.readers.epoch_order import EpochOrder, Rows, ShuffleSpec, pick_views
from epalm.cache.readers.feature_source import FeatureSource, ReadPlan
from epalm.model.engine.model_batch import Batch
from epalm.tasks.types import Example
from epalm.train.data.batching import bucket_lengths, group_by_sample
from epalm.train.data.cached_text_states import CachedTextStates
from epalm.train.data.tokenized_texts import TokenizedTexts, distinct_images
from epalm.train.parallel.distributed import ALONE, Group

AnySource: TypeAlias = FeatureSource[Any]
"""Feature source that returns numpy arrays, or tensors that are on the device already."""


@dataclass(frozen=True)
class Loader:
    """Batches of training examples with the features of their samples.

    Attributes:
        examples: training examples, all with features in the source.
        source: stored features.
        texts: token ids of these examples.
        batch_size: examples per step of all processes; the last batch of an epoch may be smaller.
        seed: seed of order, drawn answers and views.
        order: how epochs are shuffled.
        group: processes that each batch is divided among.
        group_questions: number of questions about one sample that meet in a batch, see
            `group_by_sample`.
        bucket_batches: number of batches within which texts of similar length meet, see
            `bucket_lengths`.
        text_states: cached text states; None if every step computes them.
    """

    examples: Sequence[Example]
    source: AnySource
    texts: TokenizedTexts
    batch_size: int
    seed: int
    order: ShuffleSpec = field(default_factory=ShuffleSpec)
    group: Group = ALONE
    group_questions: int = 1
    bucket_batches: int = 0
    text_states: CachedTextStates | None = None

    def __len__(self) -> int:
        """Number of batches in one epoch."""
        return -(-len(self.examples) // self.batch_size)

    def samples(self, first: int, end: int) -> int:
        """Number of examples in batches `first` to `end` - 1 of an epoch, over all processes."""
        return min(end * self.batch_size, len(self.examples)) - first * self.batch_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shard of the batches from number `start` on; earlier ones are not read.

        A process for which the epoch's last batch has no example gets one batch less. The features
        of a batch may be in a buffer that the next batch overwrites.
        """
        random = np.random.default_rng([self.seed, epoch])
        order = self.order.draw(self._rows, random)
        chances = random.random(len(self.examples))
        order = self._arrange(order, chances, random)
        shard = self.group.shard(order.after(start * self.batch_size), self.batch_size)
        rows, views = self._rows, self._views(epoch)
        plan = ReadPlan(rows[shard.examples], views[shard.examples], shard.pool_ends)
        first = 0
        for block in self.source.stream(plan, self.group.size(self.batch_size)):
            places = shard.examples[first : first + len(block)]
            first += len(block)
            distinct, images = distinct_images(
                rows[places] * self.source.spec.views + views[places]
            )
            tokens = torch.as_tensor(block)
            tokens = tokens[torch.from_numpy(distinct).to(tokens.device)]
            texts = self.texts.draw(places, chances[places])
            states = self.text_states.read(texts) if self.text_states else None
            yield Batch(tokens, *self.texts.collate(texts), images, states)

    def _arrange(
        self, order: EpochOrder, chances: NDArray[np.float64], random: np.random.Generator
    ) -> EpochOrder:
        """The order with questions about one sample, and texts of similar length, side by side."""
        order, units = group_by_sample(order, self._rows, self.group_questions)
        if not self.bucket_batches:
            return order
        return bucket_lengths(
            order,
            units,
            self.texts.lengths(np.arange(len(self.examples)), chances),
            batch_size=self.batch_size,
            window=self.bucket_batches,
            random=random,
        )

    @cached_property
    def _keys(self) -> list[str]:
        return [example.key for example in self.examples]

    @cached_property
    def _rows(self) -> Rows:
        return self.source.rows(self._keys)

    def _views(self, epoch: int) -> Rows:
        return pick_views(self.seed, epoch, self._keys, self.source.spec.views)


def read_tokens(source: AnySource, examples: Sequence[Example]) -> Tensor:
    """(B, L, D): features of the deterministic view of each example's sample."""
    return torch.as_tensor(source.read([example.key for example in examples]))
