"""Attention that understands rows: gathers them to sequences, attends, scatters the result back.

The same function serves generation, where each text stands behind the keys and values of a picture.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention, softmax
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from epalm.model.engine.packing import PackedLayout

ATTENTION = "epalm"
"""Name under which the attention function is registered with transformers."""

SHORT = 64
"""On a CPU, sequences shorter than this attend by plain batched products: PyTorch's fused kernel
is slower there, 7 times in bfloat16 with its backward pass (B 64, 6 heads, 28 positions)."""


@dataclass
class AttentionProbe:
    """Passes a decoder layer in place of attention, and keeps what the layer asked.

    Attributes:
        attended: (1, N, heads, head width) what attention is to give; None for anything.
        query: (1, heads, N, head width), set by the pass.
        key: likewise.
        value: likewise.
    """

    attended: Tensor | None = None
    query: Tensor = field(init=False)
    key: Tensor = field(init=False)
    value: Tensor = field(init=False)


@dataclass
class TextDependentToken:
    """A visual row that reads the text and is read by the last layer alone (tail "official").

    What it reads grows with the text, so its last state is made anew in each step; no other row
    that later steps need depends on it, so everything else is cached.

    Attributes:
        layer: where it reads; the next layer is the last one.
        query: (pictures, heads, 1, head width) at that layer.
        advance: ((B, 1, heads, head width) what it read, (B) pictures) -> its keys and values at
            the last layer, each (B, heads, 1, head width).
        state: of the present step: these keys and values.
    """

    layer: int
    query: Tensor
    advance: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    state: tuple[Tensor, Tensor] = field(init=False)

    def read(
        self, key: Tensor, value: Tensor, visible: Tensor | None, *, index: Tensor, scaling: float
    ) -> None:
        """Let the row read all of the text so far.

        Args:
            key: (B, heads, K, head width), what stands before the text among them.
            value: likewise.
            visible: (B, 1, 1, K) bool, what the newest text row sees; None for all.
            index: (B) int64, the picture of each sequence.
            scaling: factor on the scores.
        """
        asked = self.query.index_select(0, index)
        found = _weigh(asked, key, value, visible, scaling=scaling, dropout=0.0)
        self.state = self.advance(found, index)


@dataclass(frozen=True)
class Prefix:
    """Keys and values of what stands before the text, per layer; made once per picture.

    Attributes:
        layers: per OPT layer (keys, values), each (pictures, heads, positions, head width), or
            None where nothing stands before the text.
        carry: the visual row if its last state depends on the text.
    """

    layers: tuple[tuple[Tensor, Tensor] | None, ...]
    carry: TextDependentToken | None = None


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    layout: PackedLayout | None = None,
    probe: AttentionProbe | None = None,
    **ignored: Any,  # noqa: ANN401 - transformers passes what other attention functions need
) -> tuple[Tensor, None]:
    """Attention over rows (with `layout`), or over sequences behind what a cache puts in front.

    Args:
        module: the OPT attention module that calls.
        query: (1, heads, N, head width) with a layout, else (B, heads, Q, head width).
        key: like query, all positions so far.
        value: like key.
        attention_mask: (B, 1, Q, text) bool, over the last positions of the keys, all others are
            seen; None if all are. Not used with a layout.
        scaling: factor on the scores.
        dropout: probability on the weights.
        layout: how rows form sequences.
        probe: takes the place of attention.
        ignored: what other attention functions need.

    Returns:
        (B, Q, heads, head width), batch 1 with a layout; and None for the weights.
    """
    del ignored
    if probe is not None:
        probe.query, probe.key, probe.value = query, key, value
        return query.transpose(1, 2) if probe.attended is None else probe.attended, None
    if layout is not None:
        query, key, value = (_to_sequences(part, layout) for part in (query, key, value))
        attention_mask = layout.visible
        if layout.recorded is not None:
            layout.recorded[int(module.layer_idx)] = key, value  # type: ignore[arg-type]
    elif attention_mask is not None:
        before = key.shape[2] - attention_mask.shape[3]
        attention_mask = pad(attention_mask, (before, 0), value=True)
    attended = _weigh(query, key, value, attention_mask, scaling=scaling, dropout=dropout)
    if layout is not None:
        attended = attended.flatten(0, 1).index_select(0, layout.slots_of_rows).unsqueeze(0)
    return attended, None


def text_dependent_token(layers: Sequence[nn.Module], rows: Tensor) -> TextDependentToken:
    """The visual row between the last two layers.

    Args:
        layers: all decoder layers.
        rows: (pictures, H) the row's states that enter the last layer but one.
    """
    reading, last = layers[-2:]
    asked = AttentionProbe()
    reading(rows.unsqueeze(0), probe=asked)

    def advance(read: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        own = rows.index_select(0, index).unsqueeze(0)
        hidden = reading(own, probe=AttentionProbe(read.transpose(0, 1)))
        left = AttentionProbe()
        last(hidden, probe=left)
        return _by_sequence(left.key), _by_sequence(left.value)

    return TextDependentToken(len(layers) - 2, _by_sequence(asked.query), advance)


def _by_sequence(rows: Tensor) -> Tensor:
    """(1, heads, N, head width) of one row per sequence to (N, heads, 1, head width)."""
    return rows[0].transpose(0, 1).unsqueeze(2)


def _weigh(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor | None,
    *,
    scaling: float,
    dropout: float,
) -> Tensor:
    """Plain attention over sequences, (B, Q, heads, head width)."""
    if query.device.type == "cpu" and key.shape[2] < SHORT:
        scores = scaling * (query @ key.transpose(2, 3))
        if visible is not None:
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        weights = softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype)
        attended = nn.functional.dropout(weights, dropout) @ value
    else:
        attended = scaled_dot_product_attention(
            query, key, value, attn_mask=visible, dropout_p=dropout, scale=scaling
        )
    return attended.transpose(1, 2)


def _to_sequences(rows: Tensor, layout: PackedLayout) -> Tensor:
    """(1, heads, N, head width) to (B, heads, S, head width)."""
    by_row = rows[0].transpose(0, 1)
    slots = by_row.index_select(0, layout.rows_of_slots)
    batch, _, length, _ = layout.visible.shape
    return slots.view(batch, length, *by_row.shape[1:]).transpose(1, 2)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:  # noqa: ANN401 - transformers' own signature
    """A full mask: behind a prefix, SDPA's own causal mask would be misaligned.

    None for one query that sees all, as transformers decides.
    """
    single = kwargs["q_length"] == 1
    mask: Tensor | None = sdpa_mask(*args, **(kwargs | {"allow_is_causal_skip": single}))
    return mask


def register_attention() -> None:
    """Make the attention function known to transformers under the name `ATTENTION`."""
    AttentionInterface.register(ATTENTION, packed_attention)
    AttentionMaskInterface.register(ATTENTION, _mask)
