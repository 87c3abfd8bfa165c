"""Batches of one epoch: which examples, in which order, with which answer.

Order and answers depend on (seed, epoch) alone, so a resumed run sees what it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.cache.store import FeatureSource
from epalm.errors import TrainingError
from epalm.model.batch import Batch, Template, collate_training
from epalm.tasks.records import Example


@dataclass(frozen=True)
class Loader:
    """The training examples and where their vectors come from.

    Attributes:
        examples: all of them, their media present in the source.
        source: stored vectors.
        tokenizer: with the answer separator if the template uses it.
        template: how prompt and answer become text.
        batch_size: examples per step; the last batch of an epoch may be smaller.
        seed: of order and answers.
    """

    examples: Sequence[Example]
    source: FeatureSource
    tokenizer: PreTrainedTokenizerBase
    template: Template
    batch_size: int
    seed: int

    def __len__(self) -> int:
        """Batches in one epoch."""
        return -(-len(self.examples) // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches from number `start` on."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.examples))
        chances = random.random(len(self.examples))
        for first in range(start * self.batch_size, len(order), self.batch_size):
            places = order[first : first + self.batch_size]
            yield self._batch([self.examples[place] for place in places], chances[places])

    def _batch(self, examples: Sequence[Example], chances: NDArray[np.float64]) -> Batch:
        pairs = [
            (example.prompt, draw_answer(example, chance))
            for example, chance in zip(examples, chances, strict=True)
        ]
        tokens = read_tokens(self.source, examples)
        return collate_training(self.tokenizer, self.template, pairs, tokens)


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


def read_tokens(source: FeatureSource, examples: Sequence[Example]) -> Tensor:
    """(B, L, D): the deterministic view of each example's medium."""
    return torch.from_numpy(source.read([example.key for example in examples]))


def encodable(examples: Sequence[Example], source: FeatureSource) -> list[Example]:
    """The examples whose medium could be encoded.

    Raises:
        TrainingError: none is left.
        UnknownKeyError: a medium is not in the store at all.
    """
    valid = source.valid([example.key for example in examples])
    kept = [example for example, ok in zip(examples, valid, strict=True) if ok]
    if not kept:
        raise TrainingError(f"none of {len(examples)} examples has a medium that could be encoded")
    return kept
