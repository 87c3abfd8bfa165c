"""Rows instead of sequences: the layout of one pass.

All rows of a step lie in one (1, N, H) tensor, [visual | prompt | text], and pass Hugging Face's
decoder layers unchanged. No padding is computed, a picture's rows are computed once for all its
texts, and below the first injected layer, where the soft prompt does not depend on the picture, its
rows are computed once for the whole batch. Only attention needs sequences, see
`epalm.model.engine.packed_attention`.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class PackedBatch:
    """B texts, each behind a picture.

    Attributes:
        present: (B, T) bool, text positions that have a row.
        readable: (B, T) bool, text positions that other text may attend to.
        pictures: (B) int64, the picture of each; every picture has a sequence.
    """

    present: Tensor
    readable: Tensor
    pictures: Tensor


@dataclass(frozen=True)
class PackedLayout:
    """How N rows form B sequences of S = [visual | prompt | text] slots.

    Attributes:
        rows_of_slots: (B * S) int64, the row in each slot; empty slots name any row.
        slots_of_rows: (N) int64, a slot of each row.
        visible: (B, 1, S, S) bool, whether a query slot sees a key slot.
        recorded: where `attend` leaves each layer's (keys, values), each (B, heads, S, head
            width); None to keep nothing.
    """

    rows_of_slots: Tensor
    slots_of_rows: Tensor
    visible: Tensor
    recorded: dict[int, tuple[Tensor, Tensor]] | None = field(default=None, repr=False)


def text_slots(present: Tensor) -> Tensor:
    """(B, T) int64: each present text position's number in row order, 0 elsewhere.

    Args:
        present: (B, T) bool, whether a position has a row.
    """
    numbers = torch.cumsum(present.flatten(), 0).view(present.shape) - 1
    return torch.where(present, numbers, 0)


def build_packed_layout(
    sequences: PackedBatch,
    *,
    count: int,
    visual: int,
    prompt: int,
    shared_prompt: bool,
    visual_sees_all: bool = False,
    recorded: dict[int, tuple[Tensor, Tensor]] | None = None,
) -> PackedLayout:
    """The layout of rows [visual | prompt | text].

    Args:
        sequences: the texts.
        count: number of pictures, G.
        visual: visual rows per picture, V.
        prompt: prompt rows per picture, P.
        shared_prompt: one set of prompt rows serves all pictures.
        visual_sees_all: the visual queries see every slot (the released code's mask). No two
            sequences may share a picture then.
        recorded: see `PackedLayout`.
    """
    present, pictures = sequences.present, sequences.pictures
    device = present.device
    first = _first_sequences(pictures, count)
    visual_rows = pictures[:, None] * visual + torch.arange(visual, device=device)
    prompt_sets = 1 if shared_prompt else count
    prompt_set = torch.zeros_like(pictures) if shared_prompt else pictures
    prompt_rows = prompt_set[:, None] * prompt + torch.arange(prompt, device=device)
    before_text = count * visual + prompt_sets * prompt
    text_rows = before_text + text_slots(present)
    rows = torch.cat([visual_rows, count * visual + prompt_rows, text_rows], dim=1)

    slots = torch.arange(rows.numel(), device=device).view(rows.shape)
    slots_of_rows = torch.cat(
        [
            slots[first, :visual].flatten(),
            slots[first[:prompt_sets], visual : visual + prompt].flatten(),
            slots[:, visual + prompt :][present],
        ]
    )
    seen = pad(sequences.readable, (visual + prompt, 0), value=True)
    length = rows.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    visible = causal & seen[:, None, None, :]
    if visual_sees_all:
        visible[:, :, :visual] = True
    return PackedLayout(rows.flatten(), slots_of_rows, visible, recorded)


def _first_sequences(pictures: Tensor, count: int) -> Tensor:
    """(G) int64, the first of each picture's sequences."""
    numbers = torch.arange(len(pictures), device=pictures.device)
    return numbers.new_full((count,), len(numbers)).scatter_reduce(0, pictures, numbers, "amin")
