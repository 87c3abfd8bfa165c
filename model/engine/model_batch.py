"""Batches: tokenized texts and stored features as the tensors of one step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from epalm.errors import ModelError
from epalm.model.method.model_settings import Supervision, Template

IGNORED = -100
"""Label of positions without supervision (PyTorch's convention)."""

ANSWER_SEPARATOR = "</a>"
"""The official implementation's extra token between question and answer, with an untrained
embedding."""


@dataclass(frozen=True)
class Batch:
    """Input of one step: B texts about G images.

    Attributes:
        features: (G, L, D) stored features, any float dtype.
        input_ids: (B, T) int64, padded with the pad id.
        attention_mask: (B, T) int64, 0 on padding.
        labels: (B, T) int64, not shifted, `IGNORED` where nothing is supervised. Column 0 is
            always ignored, since no token predicts the first one.
        image_index: (B) int64, the image that each text is about; every image has a text.
        text_states: (text tokens, H) cached hidden states of the text below the first injected
            layer, see `EPALM.lower_text_states`; None to compute them.
    """

    features: Tensor
    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    image_index: Tensor
    text_states: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {
            name: tensor.to(device, non_blocking=True)
            for name, tensor in tensors.items()
            if tensor is not None
        }
        return Batch(**moved)


def add_separator(
    tokenizer: PreTrainedTokenizerBase, template: Template, vocabulary_size: int
) -> None:
    """Add the answer separator to the tokenizer if the template uses it.

    Args:
        tokenizer: changed in place.
        template: decides whether a separator is needed.
        vocabulary_size: number of word embeddings; the separator uses the first one without a
            token.

    Raises:
        ModelError: every word embedding has a token already.
    """
    if ANSWER_SEPARATOR not in template.text:
        return
    tokenizer.add_tokens([ANSWER_SEPARATOR], special_tokens=True)
    if len(tokenizer) > vocabulary_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens with {ANSWER_SEPARATOR!r}, the language "
            f"model only {vocabulary_size} word embeddings: use a template without this token, "
            "e.g. '{prompt} {answer}'"
        )


def prompt_ids(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompts: Sequence[str]
) -> list[list[int]]:
    """Token ids of each prompt, begin token included."""
    return _encode(tokenizer, [template.question(prompt) for prompt in prompts], begin=True)


def answer_ids(
    tokenizer: PreTrainedTokenizerBase, template: Template, answers: Sequence[str]
) -> list[list[int]]:
    """Token ids of each answer, end token included.

    The end token's text inside an answer is removed, as in the official implementation.
    """
    clean = [template.answer(answer).replace(tokenizer.eos_token, "") for answer in answers]
    return [[*ids, tokenizer.eos_token_id] for ids in _encode(tokenizer, clean, begin=False)]


def collate_texts(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], *, supervise: Supervision, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Tensors (input_ids, attention_mask, labels), (B, T) int64 each, right-padded with `pad`.

    Args:
        texts: (ids of begin token and prompt, ids of answer and end token) of B examples.
        supervise: "all" supervises the prompt too, "answer" only answer and end token.
        pad: id of the pad token.
    """
    prompt_lengths = torch.tensor([len(prompt) for prompt, _ in texts])
    lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in texts])
    width = int(lengths.max())
    padded = [
        [*prompt, *answer] + [pad] * (width - len(prompt) - len(answer)) for prompt, answer in texts
    ]
    ids = torch.tensor(padded)
    columns = torch.arange(width)
    mask = columns < lengths[:, None]
    supervised = mask & (columns >= (prompt_lengths[:, None] if supervise == "answer" else 1))
    return ids, mask.long(), ids.masked_fill(~supervised, IGNORED)


def collate_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, prompts: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Tensors (input_ids, attention_mask), (B, T) int64 each, left-padded for generation."""
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
        verbose=False,  # no warning of long texts: `length_check` rejects them by name
    ).input_ids
    return encoded
