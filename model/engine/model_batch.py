"""Batches: tokenized texts and stored features as the tensors of one step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from epalm.model.method.model_settings import Supervision

IGNORED = -100
"""Label of positions without supervision (PyTorch's convention)."""


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
