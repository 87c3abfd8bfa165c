"""The texts of all training examples as token ids, made once."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.model.engine.model_batch import answer_ids, collate_texts, prompt_ids
from epalm.model.method.model_settings import Template
from epalm.tasks.types import Example

Text: TypeAlias = tuple[list[int], list[int]]
"""Ids of begin token and prompt, and of answer and end token."""


class TokenizedTexts:
    """Token ids of every prompt and every answer, each distinct one once."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: Template, examples: Sequence[Example]
    ) -> None:
        """Encode them all.

        Args:
            tokenizer: with the answer separator if the template uses it.
            template: how prompt and answer become text.
            examples: whose answers may be drawn by `draw_answer`.
        """
        self._examples = examples
        self._template = template
        self._pad = int(tokenizer.pad_token_id)
        prompts = _distinct(example.prompt for example in examples)
        answers = _distinct(answer for one in examples for answer in possible_answers(one))
        heads = prompt_ids(tokenizer, template, prompts)
        tails = answer_ids(tokenizer, template, answers)
        self._heads = dict(zip(prompts, heads, strict=True))
        self._tails = dict(zip(answers, tails, strict=True))

    def draw(self, places: NDArray[np.intp], chances: NDArray[np.float64]) -> list[Text]:
        """The texts of the examples at `places`, see `draw_answer`."""
        examples = [self._examples[place] for place in places]
        return [
            (self._heads[one.prompt], self._tails[draw_answer(one, chance)])
            for one, chance in zip(examples, chances, strict=True)
        ]

    def possible(self) -> list[Text]:
        """Every text that may be drawn, each distinct one once."""
        pairs = dict.fromkeys(
            (one.prompt, answer) for one in self._examples for answer in possible_answers(one)
        )
        return [(self._heads[prompt], self._tails[answer]) for prompt, answer in pairs]

    def longest(self) -> tuple[list[int], list[tuple[int, str]]]:
        """(M) tokens of each example's prompt, and (M) of its longest answer, with that answer."""
        prompts = [len(self._heads[one.prompt]) for one in self._examples]
        answers = [
            max((len(self._tails[answer]), answer) for answer in possible_answers(one))
            for one in self._examples
        ]
        return prompts, answers

    def lengths(self, places: NDArray[np.intp], chances: NDArray[np.float64]) -> NDArray[np.intp]:
        """(B,) tokens of the texts that `draw` gives."""
        texts = self.draw(places, chances)
        return np.array([len(head) + len(tail) for head, tail in texts], np.intp)

    def collate(self, texts: Sequence[Text]) -> tuple[Tensor, Tensor, Tensor]:
        """(input_ids, attention_mask, labels), right-padded; see `collate_texts`."""
        return collate_texts(texts, supervise=self._template.supervise, pad=self._pad)


def possible_answers(example: Example) -> list[str]:
    """Every answer that `draw_answer` may give."""
    if not example.weights:
        return list(example.answers)
    weighted = zip(example.answers, example.weights, strict=True)
    return [answer for answer, weight in weighted if weight > 0] or [""]


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


def picture_numbers(media: NDArray[np.intp]) -> tuple[NDArray[np.intp], Tensor]:
    """(G,) a place of each distinct medium, and (B) int64 which of them each sample has."""
    _, places, numbers = np.unique(media, return_index=True, return_inverse=True)
    return places, torch.from_numpy(numbers.astype(np.int64, copy=False))


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
