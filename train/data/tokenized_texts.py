"""Token ids of the texts of all training examples, tokenized once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from epalm.model.engine.model_batch import collate_texts
from epalm.model.text.text_encoder import TextEncoder
from epalm.tasks.types import Example

Text: TypeAlias = tuple[list[int], list[int]]
"""Token ids of a text: begin token and prompt, then answer and end token."""


ENCODED_TEXTS = 1 << 14
"""Texts that are tokenized at a time; the ids of all others are in an array, 4 bytes each."""


class _TokenTable:
    """The token ids of distinct texts, without a Python object per id."""

    def __init__(
        self, texts: Sequence[str], encode: Callable[[Sequence[str]], list[list[int]]]
    ) -> None:
        self._rows = {text: row for row, text in enumerate(texts)}
        blocks, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for start in range(0, len(texts), ENCODED_TEXTS):
            encoded = encode(texts[start : start + ENCODED_TEXTS])
            blocks.append(np.fromiter(chain.from_iterable(encoded), np.int32))
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        self._ids = np.concatenate(blocks)
        self._ends = np.cumsum(np.concatenate(lengths))

    def ids(self, text: str) -> list[int]:
        """The token ids of a text."""
        row = self._rows[text]
        ids: list[int] = self._ids[self._start(row) : self._ends[row]].tolist()
        return ids

    def length(self, text: str) -> int:
        """The number of tokens of a text."""
        row = self._rows[text]
        return int(self._ends[row]) - self._start(row)

    def _start(self, row: int) -> int:
        return int(self._ends[row - 1]) if row else 0


class TokenizedTexts:
    """Token ids of every distinct prompt and every distinct answer."""

    def __init__(self, text: TextEncoder, examples: Sequence[Example]) -> None:
        """Tokenize all texts.

        Args:
            text: encoder of prompts and answers.
            examples: training examples, whose answers `draw_answer` draws from.
        """
        self._examples = examples
        self._supervise, self._pad = text.template.supervise, text.pad
        prompts = _distinct(example.prompt for example in examples)
        answers = _distinct(answer for example in examples for answer in possible_answers(example))
        self._heads = _TokenTable(prompts, text.prompt_ids)
        self._tails = _TokenTable(answers, text.answer_ids)

    def draw(self, places: NDArray[np.intp], chances: NDArray[np.float64]) -> list[Text]:
        """One text of each example at `places`, see `draw_answer`."""
        drawn = self._drawn(places, chances)
        return [(self._heads.ids(prompt), self._tails.ids(answer)) for prompt, answer in drawn]

    def possible(self) -> list[Text]:
        """Every distinct text that `draw` can return."""
        pairs = dict.fromkeys(
            (example.prompt, answer)
            for example in self._examples
            for answer in possible_answers(example)
        )
        return [(self._heads.ids(prompt), self._tails.ids(answer)) for prompt, answer in pairs]

    def longest(self) -> tuple[list[int], list[tuple[int, str]]]:
        """(M) tokens of each example's prompt, and (M) tokens and text of its longest answer."""
        prompts = [self._heads.length(example.prompt) for example in self._examples]
        answers = [
            max((self._tails.length(answer), answer) for answer in possible_answers(example))
            for example in self._examples
        ]
        return prompts, answers

    def lengths(self, places: NDArray[np.intp], chances: NDArray[np.float64]) -> NDArray[np.intp]:
        """(B,) number of tokens of each text that `draw` returns."""
        lengths = (
            self._heads.length(prompt) + self._tails.length(answer)
            for prompt, answer in self._drawn(places, chances)
        )
        return np.fromiter(lengths, np.intp, len(places))

    def _drawn(
        self, places: NDArray[np.intp], chances: NDArray[np.float64]
    ) -> Iterator[tuple[str, str]]:
        """Prompt and drawn answer of each example at `places`."""
        for place, chance in zip(places, chances, strict=True):
            example = self._examples[place]
            yield example.prompt, draw_answer(example, chance)

    def collate(self, texts: Sequence[Text]) -> tuple[Tensor, Tensor, Tensor]:
        """(input_ids, attention_mask, labels), right-padded; see `collate_texts`."""
        return collate_texts(texts, supervise=self._supervise, pad=self._pad)


def possible_answers(example: Example) -> list[str]:
    """Every answer that `draw_answer` can return."""
    if not example.weights:
        return list(example.answers)
    weighted = zip(example.answers, example.weights, strict=True)
    return [answer for answer, weight in weighted if weight > 0] or [""]


def draw_answer(example: Example, chance: float) -> str:
    """Draw an answer in proportion to the example's weights, by a random number in [0, 1).

    An example whose weights are all zero trains on the empty text, as in the official
    implementation.
    """
    weights = np.asarray(example.weights or [1.0] * len(example.answers), dtype=np.float64)
    total = weights.sum()
    if total == 0:
        return ""
    index = int(np.searchsorted(np.cumsum(weights) / total, chance, side="right"))
    return example.answers[min(index, len(example.answers) - 1)]


def distinct_images(rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], Tensor]:
    """(G,) an index of each distinct row, and (B) int64 which of them each example has."""
    _, indices, numbers = np.unique(rows, return_index=True, return_inverse=True)
    return indices, torch.from_numpy(numbers.astype(np.int64, copy=False))


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
