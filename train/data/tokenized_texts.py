"""Token ids of the texts of all training examples, tokenized once."""

from collections.abc import Iterable, Sequence
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
        heads = text.prompt_ids(prompts)
        tails = text.answer_ids(answers)
        self._heads = dict(zip(prompts, heads, strict=True))
        self._tails = dict(zip(answers, tails, strict=True))

    def draw(self, places: NDArray[np.intp], chances: NDArray[np.float64]) -> list[Text]:
        """One text of each example at `places`, see `draw_answer`."""
        examples = [self._examples[place] for place in places]
        return [
            (self._heads[example.prompt], self._tails[draw_answer(example, chance)])
            for example, chance in zip(examples, chances, strict=True)
        ]

    def possible(self) -> list[Text]:
        """Every distinct text that `draw` can return."""
        pairs = dict.fromkeys(
            (example.prompt, answer)
            for example in self._examples
            for answer in possible_answers(example)
        )
        return [(self._heads[prompt], self._tails[answer]) for prompt, answer in pairs]

    def longest(self) -> tuple[list[int], list[tuple[int, str]]]:
        """(M) tokens of each example's prompt, and (M) tokens and text of its longest answer."""
        prompts = [len(self._heads[example.prompt]) for example in self._examples]
        answers = [
            max((len(self._tails[answer]), answer) for answer in possible_answers(example))
            for example in self._examples
        ]
        return prompts, answers

    def lengths(self, places: NDArray[np.intp], chances: NDArray[np.float64]) -> NDArray[np.intp]:
        """(B,) number of tokens of each text that `draw` returns."""
        texts = self.draw(places, chances)
        return np.array([len(head) + len(tail) for head, tail in texts], np.intp)

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
