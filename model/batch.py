"""From examples' texts and stored vectors to the tensors of one step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.errors import ModelError, UsageError

IGNORED = -100
"""Label of positions without supervision, PyTorch's convention."""

ANSWER_SEPARATOR = "</a>"
"""The released code's extra token between question and answer; it takes an untrained row."""

Supervision = Literal["all", "answer"]


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes:
        tokens: (B, L, D) stored vectors, any float dtype.
        input_ids: (B, T) int64, padded with the pad id.
        attention_mask: (B, T) int64, 0 on padding.
        labels: (B, T) int64, `IGNORED` where nothing is supervised; not shifted. Column 0 is
            always ignored: no row predicts the first token.
    """

    tokens: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        moved = (self.tokens, self.input_ids, self.attention_mask, self.labels)
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in moved))


@dataclass(frozen=True)
class Template:
    """How a prompt and an answer become one text, e.g. "{prompt}?</a>{answer}".

    Attributes:
        text: ends in "{answer}"; "{prompt}" before it, or nothing for captioning.
        supervise: "all" supervises the prompt too (as published), "answer" the answer only.
    """

    text: str
    supervise: Supervision = "all"

    def __post_init__(self) -> None:
        """Refuse a template that does not end in its answer."""
        if not self.text.endswith("{answer}") or self.text.count("{prompt}") > 1:
            raise UsageError(
                f"template {self.text!r} must end in '{{answer}}', with at most one '{{prompt}}'"
            )

    @property
    def _head(self) -> str:
        return self.text.removesuffix("{answer}")

    def question(self, prompt: str) -> str:
        """What generation starts from; blanks at the end belong to the answer's first token."""
        return self._head.replace("{prompt}", prompt).rstrip(" ")

    def answer(self, answer: str) -> str:
        """What follows it."""
        blanks = len(self._head) - len(self._head.rstrip(" "))
        return " " * blanks + answer


def add_separator(tokenizer: PreTrainedTokenizerBase, template: Template, rows: int) -> None:
    """Teach the tokenizer the answer separator if the template uses it.

    Args:
        tokenizer: changed in place.
        template: decides whether a separator is needed.
        rows: rows of the word embedding; the separator takes the first one the tokenizer leaves.

    Raises:
        ModelError: the embedding has no spare row.
    """
    if ANSWER_SEPARATOR not in template.text:
        return
    tokenizer.add_tokens([ANSWER_SEPARATOR], special_tokens=True)
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer with {ANSWER_SEPARATOR!r} has {len(tokenizer)} entries, the word "
            f"embedding {rows} rows: use a template without it, e.g. '{{prompt}} {{answer}}'"
        )


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompt: str, answer: str
) -> tuple[list[int], list[int]]:
    """(ids, labels) of a training text: begin token, prompt, answer, end token.

    The end token's text inside an answer is removed, as in the released code.
    """
    head = tokenizer(template.question(prompt)).input_ids
    clean = template.answer(answer).replace(tokenizer.eos_token, "")
    tail = [*tokenizer(clean, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    shown = head[1:] if template.supervise == "all" else [IGNORED] * (len(head) - 1)
    return head + tail, [IGNORED, *shown, *tail]


def collate_training(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    pairs: Sequence[tuple[str, str]],
    tokens: Tensor,
) -> Batch:
    """A right-padded batch of (prompt, answer) pairs with their stored vectors (B, L, D)."""
    encoded = [encode_pair(tokenizer, template, prompt, answer) for prompt, answer in pairs]
    lengths = torch.tensor([len(ids) for ids, _ in encoded])
    width = int(lengths.max())
    pad = int(tokenizer.pad_token_id)
    ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in encoded])
    labels = torch.tensor([marks + [IGNORED] * (width - len(marks)) for _, marks in encoded])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return Batch(tokens, ids, mask, labels)


def collate_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (B, T) int64, left-padded for generation."""
    encoded = [tokenizer(template.question(prompt)).input_ids for prompt in prompts]
    width = max(len(ids) for ids in encoded)
    pad = int(tokenizer.pad_token_id)
    ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in encoded])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded])
    return ids, mask
