"""Made-up captions, and the tokens of their words in place of a tokenizer's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from epalm.model.method.model_settings import Template
from epalm.tasks.types import Example

CAPTION_WORDS = 10

WORDS = 1000


def make_captions(keys: Sequence[str], count: int) -> list[Example]:
    """Examples of random samples with a caption of ten words each."""
    random = np.random.default_rng(0)
    rows: list[int] = np.sort(random.choice(len(keys), count, replace=False)).tolist()
    words = random.integers(0, WORDS, (count, CAPTION_WORDS)).tolist()
    texts = (" ".join(f"w{word}" for word in caption) for caption in words)
    return [
        Example(keys[row], str(number), "", answers := (text,), answers)
        for number, (row, text) in enumerate(zip(rows, texts, strict=True))
    ]


@dataclass
class WordEncoder:
    """What `TokenizedTexts` needs of a `TextEncoder`; a word is a token."""

    template: Template = field(default_factory=lambda: Template("{answer}"))
    pad: int = 0

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """A begin token for each prompt."""
        return [[WORDS] for _ in prompts]

    def answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        """The number of each word, and an end token."""
        return [[*(int(word[1:]) for word in text.split()), WORDS + 1] for text in answers]
