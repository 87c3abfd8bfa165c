"""Packed batches: the tokens of all sequences in one tensor, without padding.

All tokens of a step are in one (1, N, H) tensor, [visual | prompt | text], which passes through
Hugging Face's decoder layers unchanged. No padding is computed. The visual tokens of an image are
computed once for all its texts. Below the first injected layer, where the soft prompt does not
depend on the image, the prompt tokens are computed once for the whole batch. Only attention needs
separate sequences, see `epalm.model.engine.packed_attention`.

A token whose output nothing reads is only a key and a value for the others. `TokenSplit` separates
such tokens from the queries, which are the tokens that pass through the layer.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(frozen=True)
class PackedBatch:
    """B texts, each after the visual tokens of an image.

    Attributes:
        present: (B, T) bool, text positions that are computed.
        readable: (B, T) bool, text positions that other text may attend to.
        image_index: (B) int64, the image of each text; every image has a text.
    """

    present: Tensor
    readable: Tensor
    image_index: Tensor

    @property
    def positions(self) -> Tensor:
        """(tokens) int64, position of each computed text token in its text; -1 for padding."""
        readable = self.readable.long()
        return (readable.cumsum(1) * readable - 1)[self.present]


@dataclass(frozen=True)
class TokenSplit:
    """N packed tokens in the order [keys only | queries].

    Attributes:
        order: (N) int64, the tokens in this order; None if they are in it already.
        only_keys: number of tokens that are keys and values only.
    """

    order: Tensor | None
    only_keys: int

    @classmethod
    def of(cls, is_query: Tensor) -> "TokenSplit | None":
        """The split of (N) bool tokens; None if all are queries."""
        order = torch.argsort(is_query.int(), stable=True)
        only_keys = len(is_query) - int(is_query.sum())
        in_order = bool(is_query[only_keys:].all())
        return cls(None if in_order else order, only_keys) if only_keys else None

    def apply(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The entries (N, ...) of the tokens that are keys only, and those of the queries."""
        ordered = tokens if self.order is None else tokens.index_select(0, self.order)
        keys, queries = ordered.split([self.only_keys, len(tokens) - self.only_keys])
        return keys, queries


@dataclass(frozen=True)
class PackedLayout:
    """Mapping between N packed tokens and B sequences of S = [visual | prompt | text] slots.

    All tokens are keys. The queries have slots of their own, Q per sequence, which are the same S
    unless some tokens are keys only.

    Attributes:
        token_of_slot: (B * S) int64, the token in each slot; empty slots name an arbitrary token.
        slot_of_token: (queries) int64, a query slot of each query.
        visible: (B, 1, Q, S) bool, attention mask from query slot to key slot.
        before_text: number of slots before the text in each sequence.
        captured: receives each layer's (keys, values), (B, heads, S, head width) each; None to
            keep nothing.
        query_of_slot: (B * Q) int64, the query in each of their slots; None for `token_of_slot`.
    """

    token_of_slot: Tensor
    slot_of_token: Tensor
    visible: Tensor
    before_text: int = 0
    captured: dict[int, tuple[Tensor, Tensor]] | None = None
    query_of_slot: Tensor | None = None

    def within(self, window: int | None) -> "PackedLayout":
        """The same layout, where text attends to the last `window` text positions only.

        Visual and prompt tokens stay visible at any distance, and see all that they saw.
        """
        length = self.visible.shape[3]
        if window is None or length - self.before_text <= window:
            return self
        slots = torch.arange(length, device=self.visible.device)
        near = slots[:, None] - slots < window
        near[:, : self.before_text] = True
        return replace(self, visible=self.visible & near)

    def divided(self, split: TokenSplit) -> "PackedLayout":
        """The layout of the same tokens in the order of a split, with slots for its queries."""
        batch, _, _, length = self.visible.shape
        order = split.order
        if order is None:
            order = torch.arange(len(self.slot_of_token), device=self.visible.device)
        sequences, slots = _divide(self.slot_of_token[order[split.only_keys :]], length)
        column = _rank_in_sequence(sequences, slots)
        width = int(column.max()) + 1
        query_slots = sequences * width + column
        query_of_slot, slot_of_query = slots.new_zeros(2, batch * width)
        query_of_slot[query_slots] = torch.arange(len(slots), device=slots.device)
        slot_of_query[query_slots] = slots
        return replace(
            self,
            token_of_slot=torch.empty_like(order).scatter(
                0, order, torch.arange(len(order), device=order.device)
            )[self.token_of_slot],
            slot_of_token=query_slots,
            visible=self.visible.take_along_dim(slot_of_query.view(batch, 1, width, 1), dim=2),
            query_of_slot=query_of_slot,
        )


def _divide(slots: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The sequence of each slot, and its place in the sequence."""
    return slots // length, slots % length


def _rank_in_sequence(sequences: Tensor, slots: Tensor) -> Tensor:
    """(M) int64: how many of the given slots come earlier in the same sequence."""
    same = sequences[:, None] == sequences
    return (same & (slots < slots[:, None])).sum(1)


def _packed_text_index(present: Tensor) -> Tensor:
    """(B, T) int64: each present position's index among the text tokens, 0 elsewhere.

    Args:
        present: (B, T) bool, text positions that are computed.
    """
    index = torch.cumsum(present.flatten(), 0).view(present.shape) - 1
    return torch.where(present, index, 0)


def build_packed_layout(
    sequences: PackedBatch,
    *,
    image_count: int,
    visual: int,
    prompt: int,
    shared_prompt: bool,
    visual_sees_all: bool = False,
    captured: dict[int, tuple[Tensor, Tensor]] | None = None,
) -> PackedLayout:
    """The layout of packed tokens [visual | prompt | text].

    Args:
        sequences: the texts.
        image_count: number of images, G.
        visual: number of visual tokens per image, V.
        prompt: number of prompt tokens, P.
        shared_prompt: whether all images share one set of prompt tokens.
        visual_sees_all: whether visual tokens attend to every slot (the official implementation's
            mask). No two texts may share an image then.
        captured: receives each layer's keys and values, see `PackedLayout`.
    """
    present, image_index = sequences.present, sequences.image_index
    device = present.device
    first = _first_sequences(image_index, image_count)
    visual_tokens = image_index[:, None] * visual + torch.arange(visual, device=device)
    prompt_sets = 1 if shared_prompt else image_count
    prompt_set = torch.zeros_like(image_index) if shared_prompt else image_index
    prompt_tokens = prompt_set[:, None] * prompt + torch.arange(prompt, device=device)
    before_text = image_count * visual + prompt_sets * prompt
    text_tokens = before_text + _packed_text_index(present)
    tokens = torch.cat([visual_tokens, image_count * visual + prompt_tokens, text_tokens], dim=1)

    slots = torch.arange(tokens.numel(), device=device).view(tokens.shape)
    slot_of_token = torch.cat(
        [
            slots[first, :visual].flatten(),
            slots[first[:prompt_sets], visual : visual + prompt].flatten(),
            slots[:, visual + prompt :][present],
        ]
    )
    readable = pad(sequences.readable, (visual + prompt, 0), value=True)
    length = tokens.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    visible = causal & readable[:, None, None, :]
    if visual_sees_all:
        visible[:, :, :visual] = True
    return PackedLayout(tokens.flatten(), slot_of_token, visible, visual + prompt, captured)


def _first_sequences(image_index: Tensor, image_count: int) -> Tensor:
    """(G) int64, the index of each image's first sequence."""
    numbers = torch.arange(len(image_index), device=image_index.device)
    return numbers.new_full((image_count,), len(numbers)).scatter_reduce(
        0, image_index, numbers, "amin"
    )
