"""From examples' texts and stored vectors to the tensors of one step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.errors import ModelError
from epalm.model.method.model_settings import Supervision, Template

IGNORED = -100
"""Label of positions without supervision, PyTorch's convention."""

ANSWER_SEPARATOR = "</a>"
"""The released code's extra token between question and answer; it takes an untrained row."""


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes:
        tokens: (G, L, D) stored vectors of G pictures, any float dtype.
        input_ids: (B, T) int64, padded with the pad id.
        attention_mask: (B, T) int64, 0 on padding.
        labels: (B, T) int64, `IGNORED` where nothing is supervised; not shifted. Column 0 is
            always ignored: no row predicts the first token.
        pictures: (B) int64, the picture each sample asks about; every one of the G has a sample.
        lower: (rows, H) states of the texts below the injection, see `EPALM.lower_states`; None
            if they are to be computed.
    """

    tokens: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    pictures: Tensor
    lower: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {
            name: one.to(device, non_blocking=True) for name, one in held.items() if one is not None
        }
        return Batch(**moved)


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


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompts: Sequence[str]
) -> list[list[int]]:
    """Ids of begin token and prompt, for each."""
    return _encode(tokenizer, [template.question(prompt) for prompt in prompts], begin=True)


def answer_ids(
    tokenizer: PreTrainedTokenizerBase, template: Template, answers: Sequence[str]
) -> list[list[int]]:
    """Ids of answer and end token, for each.

    The end token's text inside an answer is removed, as in the released code.
    """
    clean = [template.answer(answer).replace(tokenizer.eos_token, "") for answer in answers]
    return [[*ids, tokenizer.eos_token_id] for ids in _encode(tokenizer, clean, begin=False)]


def collate_texts(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], *, supervise: Supervision, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(input_ids, attention_mask, labels), (B, T) int64 each, right-padded with `pad`.

    Args:
        texts: (ids of begin token and prompt, ids of answer and end token) of B samples.
        supervise: "all" supervises the prompt too, "answer" the answer and end token only.
        pad: id of padding.
    """
    heads = torch.tensor([len(head) for head, _ in texts])
    lengths = torch.tensor([len(head) + len(tail) for head, tail in texts])
    width = int(lengths.max())
    rows = [[*head, *tail] + [pad] * (width - len(head) - len(tail)) for head, tail in texts]
    ids = torch.tensor(rows)
    columns = torch.arange(width)
    mask = columns < lengths[:, None]
    supervised = mask & (columns >= (heads[:, None] if supervise == "answer" else 1))
    return ids, mask.long(), ids.masked_fill(~supervised, IGNORED)


def collate_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask), both (B, T) int64, left-padded for generation."""
    encoded = prompt_ids(tokenizer, template, prompts)
    width = max(len(ids) for ids in encoded)
    pad = int(tokenizer.pad_token_id)
    ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in encoded])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded])
    return ids, mask


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, begin: bool
) -> list[list[int]]:
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=begin,
        verbose=False,  # else it warns of long texts, which are refused by the example's name
    ).input_ids
    return encoded
