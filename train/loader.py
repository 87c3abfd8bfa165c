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
from transformers import PreTrainedTokenizerBase

from epalm.cache.layout import Tokens
from epalm.cache.order import Order, Rows, pick_views
from epalm.cache.source import KeyIndex, ReadPlan, Source
from epalm.errors import TrainingError
from epalm.model.batch import Batch, Template, collate_training
from epalm.tasks.records import Example
from epalm.train.parallel import ALONE, Group

AnySource: TypeAlias = Source[Any]
"""Gives numpy arrays from disk or memory, or tensors that are on the device already."""


@dataclass(frozen=True)
class Loader:
    """The training examples and where their vectors come from.

    Attributes:
        examples: all of them, their media present in the source.
        source: stored vectors.
        tokenizer: with the answer separator if the template uses it.
        template: how prompt and answer become text.
        batch_size: examples per step of all processes; the last batch of an epoch may be smaller.
        seed: of order, answers and views.
        order: how epochs are shuffled.
        group: who shares each batch.
    """

    examples: Sequence[Example]
    source: AnySource
    tokenizer: PreTrainedTokenizerBase
    template: Template
    batch_size: int
    seed: int
    order: Order = field(default_factory=Order)
    group: Group = ALONE

    def __len__(self) -> int:
        """Batches in one epoch."""
        return -(-len(self.examples) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of the batches from number `start` on; nothing before it is read.

        The epoch's last batch is left out where it has too few examples for every process.
        The vectors of a batch may lie in a buffer that the next one takes over.
        """
        random = np.random.default_rng([self.seed, epoch])
        order = self.order.draw(self._rows, random)
        chances = random.random(len(self.examples))
        left = self.group.share(order.after(start * self.batch_size), self.batch_size)
        plan = ReadPlan(self._rows[left.places], self._views(epoch)[left.places], left.pool_ends)
        first = 0
        for tokens in self.source.stream(plan, self.group.size(self.batch_size)):
            places = left.places[first : first + len(tokens)]
            first += len(tokens)
            yield self._batch([self.examples[place] for place in places], chances[places], tokens)

    @cached_property
    def _keys(self) -> list[str]:
        return [example.key for example in self.examples]

    @cached_property
    def _rows(self) -> Rows:
        return self.source.rows(self._keys)

    def _views(self, epoch: int) -> Rows:
        return pick_views(self.seed, epoch, self._keys, self.source.spec.views)

    def _batch(
        self, examples: Sequence[Example], chances: NDArray[np.float64], tokens: Tokens | Tensor
    ) -> Batch:
        pairs = [
            (example.prompt, draw_answer(example, chance))
            for example, chance in zip(examples, chances, strict=True)
        ]
        return collate_training(self.tokenizer, self.template, pairs, torch.as_tensor(tokens))


def draw_answer(example: Example, chance: float) -> str:
    """The answer that a number in [0, 1) picks, in proportion to the example's weights.

    An example whose weights are all zero teaches the empty text, as in the released code.
    """
    weights = np.asarray(example.weights or [1.0] * len(example.answers), dtype=np.float64)
    total = weights.sum()
    if total == 0:
        return ""
    place = int(np.searchsorted(np.cumsum(weights) / total, chance, side="right"))
    return example.answers[min(place, len(example.answers) - 1)]


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
