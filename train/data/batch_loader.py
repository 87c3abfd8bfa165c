"""Batches of one epoch: which examples, in which order, with which answer and which view.

All of it depends on (seed, epoch) and the run's order alone, so a resumed run sees what it would
have seen.
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
from epalm.cache.readers.feature_source import FeatureSource, KeyIndex, ReadPlan
from epalm.errors import TrainingError
from epalm.model.engine.model_batch import Batch
from epalm.tasks.types import Example
from epalm.train.data.batching import bucket_lengths, group_media
from epalm.train.data.cached_text_states import CachedTextStates
from epalm.train.data.tokenized_texts import TokenizedTexts, picture_numbers
from epalm.train.parallel.distributed import ALONE, Group

AnySource: TypeAlias = FeatureSource[Any]
"""Gives numpy arrays from disk or memory, or tensors that are on the device already."""


@dataclass(frozen=True)
class Loader:
    """The training examples and where their vectors come from.

    Attributes:
        examples: all of them, their media present in the source.
        source: stored vectors.
        texts: of these examples.
        batch_size: examples per step of all processes; the last batch of an epoch may be smaller.
        seed: of order, answers and views.
        order: how epochs are shuffled.
        group: who shares each batch.
        together: questions of one picture that come together, see `group_media`.
        window: batches among which like lengths come together, see `bucket_lengths`.
        lower: the texts' states below the injection, if they are stored.
    """

    examples: Sequence[Example]
    source: AnySource
    texts: TokenizedTexts
    batch_size: int
    seed: int
    order: ShuffleSpec = field(default_factory=ShuffleSpec)
    group: Group = ALONE
    together: int = 1
    window: int = 0
    lower: CachedTextStates | None = None

    def __len__(self) -> int:
        """Batches in one epoch."""
        return -(-len(self.examples) // self.batch_size)

    def samples(self, first: int, end: int) -> int:
        """Examples in the batches `first` to `end` - 1 of an epoch, over all processes."""
        return min(end * self.batch_size, len(self.examples)) - first * self.batch_size

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of the batches from number `start` on; nothing before it is read.

        The epoch's last batch is left out where it has too few examples for every process.
        The vectors of a batch may lie in a buffer that the next one takes over.
        """
        random = np.random.default_rng([self.seed, epoch])
        order = self.order.draw(self._rows, random)
        chances = random.random(len(self.examples))
        order = self._arrange(order, chances, random)
        left = self.group.share(order.after(start * self.batch_size), self.batch_size)
        rows, views = self._rows, self._views(epoch)
        plan = ReadPlan(rows[left.examples], views[left.examples], left.pool_ends)
        first = 0
        for block in self.source.stream(plan, self.group.size(self.batch_size)):
            places = left.examples[first : first + len(block)]
            first += len(block)
            distinct, pictures = picture_numbers(
                rows[places] * self.source.spec.views + views[places]
            )
            tokens = torch.as_tensor(block)
            tokens = tokens[torch.from_numpy(distinct).to(tokens.device)]
            texts = self.texts.draw(places, chances[places])
            lower = self.lower.read(texts) if self.lower else None
            yield Batch(tokens, *self.texts.collate(texts), pictures, lower)

    def _arrange(
        self, order: EpochOrder, chances: NDArray[np.float64], random: np.random.Generator
    ) -> EpochOrder:
        """The order with questions of a picture, and texts of like length, side by side."""
        order, units = group_media(order, self._rows, self.together)
        if not self.window:
            return order
        return bucket_lengths(
            order,
            units,
            self.texts.lengths(np.arange(len(self.examples)), chances),
            batch_size=self.batch_size,
            window=self.window,
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
    """(B, L, D): the deterministic view of each example's medium."""
    return torch.as_tensor(source.read([example.key for example in examples]))


def encodable(examples: Sequence[Example], index: KeyIndex) -> list[Example]:
    """The examples whose medium could be encoded.

    Raises:
        TrainingError: none is left.
        UnknownKeyError: a medium is not in the store at all.
    """
    valid = index.valid([example.key for example in examples])
    kept = [example for example, ok in zip(examples, valid, strict=True) if ok]
    if not kept:
        raise TrainingError(f"none of {len(examples)} examples has a medium that could be encoded")
    return kept
